"""Dropout at work, classes in another order, integers cut off: found, named, healed; silent where nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fetafix import api
from fetafix.edits import InsertNode, SetInput, apply
from fetafix.faults import get
from fetafix.graph.canonical import canonical
from fetafix.graph.chance import chancy
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Graph, Node, Value
from fetafix.report import Verdict
from tests.faults.models import gated, renamed, residual, residual_nhwc
from tests.faults.sites import broken, feeds_of, segment
from tests.faults.support import EVALUATOR, NHWC, Builder, with_shapes
from tests.faults.whole import heals, treated

BIG = 6_364_136_223_846_793_005


def shaped(make: Callable[[], Graph]) -> Graph:
    graph = make()
    return with_shapes(graph, feeds_of(graph))


def hashed(factor: int = BIG) -> Graph:
    """Words put into buckets by a multiplicative hash, embedded, averaged and classified."""
    b = Builder(2)
    b.inputs.append(Value("ids", np.dtype(np.int64), (2, 6)))
    x = b.op("Add", b.op("Mul", "ids", np.array(factor, np.int64)), np.array(12345, np.int64))
    x = b.op("Mod", x, np.array(16, np.int64))
    x = b.op("ReduceMean", b.op("Gather", b.weight(16, 8), x), axes=(1,), keepdims=0)
    graph = b.build(b.op("Gemm", x, b.weight(5, 8), b.normal(5), transB=1))
    return replace(graph, inputs=(replace(graph.inputs[0], shape=("N", 6)),))


def varies(graph: Graph, feeds: dict[str, np.ndarray]) -> bool:
    """Whether runs in ONNX Runtime answer differently: of a few values two may well leave out the same."""
    session = ort.InferenceSession(model_from_graph(graph).SerializeToString())
    first, *others = (session.run(None, feeds) for _ in range(32))
    return any(not np.array_equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def words(seed: int = 0) -> dict[str, np.ndarray]:
    return {"ids": np.random.default_rng(seed).integers(0, 5000, (3, 6))}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [residual, gated])
def test_a_live_dropout_is_removed_and_nothing_varies_any_more(make: Callable[[], Graph], seed: int) -> None:
    source = shaped(make)
    made = broken(get("cg-dropout-live"), renamed(source), seed)
    assert made is not None
    feeds = feeds_of(source)
    given = {"v_image": feeds["image"]}
    assert varies(made[0], given)
    treatment = heals(source, made[0], feeds, "cg-dropout-live", feeds_of(source, 7))
    (step,) = treatment.steps
    assert made[0].node(str(step.diagnosis.suspicions[0].target)).op == "RandomUniformLike"
    assert chancy(treatment.target) == []
    assert not varies(treatment.target, given)


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_a_dropout_in_training_mode_is_removed(ratio: float) -> None:
    source = shaped(residual)
    for relu in [n.key for n in source.nodes if n.op == "Relu"][:3]:
        held = {"ratio": np.float32(ratio), "training": np.array(True)}
        node = Node("Dropout", (relu, *held), ("d0",), {}, "d0")
        target = renamed(apply(source, [InsertNode(relu, node, held)]))
        treatment = heals(source, target, feeds_of(source), "cg-dropout-live")
        assert chancy(treatment.target) == [] and len(treatment.target.nodes) == len(source.nodes)


def test_several_are_told_one_by_one() -> None:
    source, target = shaped(residual), renamed(shaped(residual))
    for seed in (1, 2):
        made = broken(get("cg-dropout-live"), target, seed)
        assert made is not None
        target = with_shapes(made[0], {"v_image": feeds_of(source)["image"]})
    treatment = treated(source, target, feeds_of(source))
    assert [s.remedy.code for s in treatment.steps if s.remedy] == ["cg-dropout-live"] * 2
    assert chancy(treatment.target) == []


@pytest.mark.parametrize(("ratio", "training"), [(0.5, False), (0.0, True), (None, None)])
def test_a_dropout_that_drops_nothing_is_no_fault(ratio: float | None, training: bool | None) -> None:
    source = shaped(residual)
    relu = next(n for n in source.nodes if n.op == "Relu").key
    held = {} if ratio is None else {"ratio": np.float32(ratio), "training": np.array(training)}
    node = Node("Dropout", (relu, *held), ("d0",), {}, "d0")
    target = renamed(apply(source, [InsertNode(relu, node, held)]))
    for graph in (target, canonical(target, EVALUATOR)):
        treatment = treated(source, graph, feeds_of(source))
        assert treatment.steps == () and treatment.target is graph


def test_where_the_source_drops_too_nothing_is_said() -> None:
    made = broken(get("cg-dropout-live"), shaped(residual), 0)
    assert made is not None
    assert list(get("cg-dropout-live").detect(segment(made[0], renamed(made[0])))) == []


@pytest.mark.parametrize("end", ["Softmax", ""])
@pytest.mark.parametrize("seed", range(4))
def test_permuted_classes_are_put_back(seed: int, end: str) -> None:
    source = shaped(lambda: residual(end=end))
    made = broken(get("op-class-permutation"), renamed(source), seed)
    assert made is not None
    heals(source, made[0], feeds_of(source), "op-class-permutation", feeds_of(source, 9))


@pytest.mark.parametrize("seed", range(2))
def test_permuted_classes_in_another_layout(seed: int) -> None:
    source, target = shaped(residual), shaped(residual_nhwc)
    made = broken(get("op-class-permutation"), renamed(target), seed)
    assert made is not None
    heals(source, made[0], feeds_of(source), "op-class-permutation", perms={"v_image": NHWC})


def test_a_shift_is_no_permutation() -> None:
    source = shaped(residual)
    made = broken(get("op-class-offset"), renamed(source), 1)
    assert made is not None
    codes = {s.code for step in treated(source, made[0], feeds_of(source)).steps for s in step.diagnosis.suspicions}
    assert "op-class-offset" in codes and "op-class-permutation" not in codes


@pytest.mark.parametrize("seed", range(2))
def test_a_constant_cut_off_at_32_bits_is_restored(seed: int) -> None:
    source = hashed()
    made = broken(get("dt-int64-clamp"), renamed(source), seed)
    assert made is not None
    treatment = heals(source, made[0], words(), "dt-int64-clamp", words(4))
    assert any(int(v) == BIG for v in treatment.target.initializers.values() if v.dtype == np.int64 and v.size == 1)


def test_the_end_of_a_slice_may_be_cut_off() -> None:
    b = Builder(1)
    x = b.op("Slice", b.input((2, 3, 8, 8), "image"), np.array([1]), np.array([np.iinfo(np.int64).max]), np.array([2]))
    x = b.op("Conv", x, b.weight(4, 3, 3, 3), b.normal(4), kernel_shape=(3, 3))
    source = b.build(b.op("Relu", x))
    made = broken(get("dt-int64-clamp"), source, 0)
    assert made is not None and isinstance(made[1][0], SetInput)
    target = renamed(made[0])
    treatment = treated(source, target, feeds_of(source))
    assert treatment.steps == () and treatment.target is target


def test_the_commands_prove_that_nothing_varies_any_more(tmp_path: Path) -> None:
    """ONNX Runtime takes a Dropout out where it optimises: what the file says shows without."""
    source = shaped(residual)
    relu = [n.key for n in source.nodes if n.op == "Relu"][1]
    held = {"ratio": np.float32(0.3), "training": np.array(True)}
    target = apply(source, [InsertNode(relu, Node("Dropout", (relu, *held), ("d0",), {}, "d0"), held)])
    for name, graph in (("a.onnx", source), ("b.onnx", renamed(target))):
        onnx.save(model_from_graph(replace(graph, shapes={})), str(tmp_path / name))
    np.save(tmp_path / "x.npy", feeds_of(source, count=12)["image"])
    options = api.Options(data=tmp_path / "x.npy", samples=12, threads=1, target_optimise="none")
    wanted = api.RepairOptions(output=tmp_path / "c.onnx", apply=True)
    report = api.repair(tmp_path / "a.onnx", tmp_path / "b.onnx", options, wanted)
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["cg-dropout-live"]
    assert report.findings[0].evidence["run_variation"] > 1e-3
    assert any("from run to run" in note for note in report.notes)
    again = api.check(tmp_path / "a.onnx", tmp_path / "c.onnx", options)
    assert again.verdict is Verdict.EQUIVALENT and not any("from run to run" in note for note in again.notes)
