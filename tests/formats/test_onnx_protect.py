"""Protected ONNX files: a stock onnxruntime answers bit by bit the same, with the same operators at run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from fetafix.errors import EditError, OutputError, UsageError
from fetafix.formats.onnx import store
from fetafix.formats.onnx.protect import Protected, protect
from fetafix.formats.onnx.protected import mark, readings, recognise
from fetafix.formats.onnx.unprotect import unprotect
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5, Encoding, Fixed
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from tests.faults.models import residual
from tests.formats import onnx_zoo
from tests.quantised import KINDS, feeds, quantise
from tests.small_models import node, save

ort.set_default_logger_severity(3)
RNG = np.random.default_rng(0)
SEVERAL = {
    "conv": (4, 3, 3, 3), "deconv": (4, 2, 2, 2), "gate": (1, 24, 8), "back": (1, 24, 6), "input": (1, 24, 6),
    "recurrent": (1, 24, 6), "gemm": (6, 6), "matmul": (6, 6), "words": (10, 8),
}


def weights() -> dict[str, np.ndarray]:
    return {k: (RNG.normal(size=s) * 0.2).astype(np.float32) for k, s in SEVERAL.items()}


def several(path: Path) -> Path:
    """Every operator that has weights; one is shared, one lies in a Constant node, one is read turned."""
    w = weights()
    w["gru"], w["gru_r"] = w["gate"][:, :18], w["back"][:, :18]
    constant = node("Constant", [], ["matmul"], value=numpy_helper.from_array(w.pop("matmul")))
    for name in ("gate", "back", "input", "recurrent"):
        w[name] = np.ascontiguousarray(w[name])
    nodes = [
        constant,
        node("Conv", ["image", "conv"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
        node("ConvTranspose", ["r", "deconv"], ["d"], strides=[2, 2]),
        node("GlobalAveragePool", ["d"], ["p"]), node("Flatten", ["p"], ["pooled"]),
        node("Gather", ["words", "ids"], ["e"]),
        node("LSTM", ["e", "gate", "back"], ["l"], hidden_size=6), node("Squeeze", ["l", "axes"], ["s"]),
        node("GRU", ["e", "gru", "gru_r"], ["g"], hidden_size=6), node("Squeeze", ["g", "axes"], ["gs"]),
        node("Add", ["s", "gs"], ["both"]),
        node("Reshape", ["both", "flat"], ["rows"]),
        node("Gemm", ["rows", "gemm"], ["one"], transB=1), node("MatMul", ["one", "matmul"], ["two"]),
        node("MatMul", ["two", "gemm"], ["y"]),
    ]
    for name in ("input", "recurrent"):
        del w[name]
    tensors = {**w, "axes": np.array([1], np.int64), "flat": np.array([-1, 6], np.int64)}
    return save(path, nodes, {"image": [1, 3, 6, 6], "ids": [5, 2]}, {"y": [10, 6], "pooled": [1, 2]}, tensors, ["ids"])


FEEDS = {"image": RNG.normal(size=(1, 3, 6, 6)).astype(np.float32), "ids": RNG.integers(0, 10, (5, 2))}


def by(plan: Plan) -> Callable[[Held, np.ndarray], Plan | str]:
    """The plan for each weight, with its own axis where the plan has one."""
    return lambda held, values: replace(plan, axis=held.axis if plan.axis is not None else None)


def done(path: Path, out: Path, plan: Plan) -> Protected:
    return protect(path, out, by(plan), {"scheme": plan.scheme}, 13 if plan.encoding == BF16 else 11)


def run(model: Path | bytes, feeds: dict[str, np.ndarray], **settings: object) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in settings.items():
        setattr(options, key, value)
    found: list[np.ndarray] = ort.InferenceSession(
        str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    return found


def operators(path: Path, folder: Path) -> Counter[str]:
    """What is left to run once onnxruntime has optimised the graph as it does by default."""
    out = folder / "optimised.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(out)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(str(out), load_external_data=False).graph.node)


@pytest.mark.parametrize("axis", [None, 0], ids=["tensor", "channel"])
@pytest.mark.parametrize("scheme", ["scale", "guard", "ceiling"])
def test_nothing_changes_at_run_time(tmp_path: Path, scheme: str, axis: int | None) -> None:
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    report = done(path, out, Plan(FP32, scheme, axis))  # type: ignore[arg-type]
    assert len(report.changed) == 9 and not report.left
    for a, b in zip(run(path, FEEDS), run(out, FEEDS), strict=True):
        assert a.tobytes() == b.tobytes()
    assert operators(out, tmp_path) == operators(path, tmp_path)
    found = readings(out)
    assert {r.name for r in found} == set(report.changed) and all(r.voted for r in found)
    assert {r.scheme for r in found} == {"ceiling" if scheme == "ceiling" else scheme}
    assert {r.form.axis is None for r in found} == {axis is None}


def test_what_onnxruntime_would_not_fold_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It folds up to a GiB an operator, which is more than a test should write."""
    monkeypatch.setattr("fetafix.formats.onnx.protect._FOLDED", 4 * 160)
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    report = done(path, out, Plan(FP32, "guard", 0))
    left = dict(report.left)
    assert list(left) == ["gate"] and "192 values, and ONNX Runtime folds no more than" in left["gate"]
    assert len(report.changed) == 8 and "gate" not in report.changed
    assert operators(out, tmp_path) == operators(path, tmp_path)


def test_constants_have_the_rank_of_the_weight_that_they_meet(tmp_path: Path) -> None:
    """onnxruntime broadcasts a scalar over a 1 × 1 kernel value by value, which is the most of a load."""
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, Plan(FP32, "ceiling", 0))
    model = onnx.load(str(out))
    met = [n for n in model.graph.node if n.op_type in ("Mul", "LessOrEqual", "Where")]
    assert len(met) > 3 * 9
    ranks = {t.name: len(t.dims) for t in model.graph.initializer}
    made = sorted({i for n in met for i in n.input} - set(ranks))
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(i) for i in made)
    results = run(model.SerializeToString(), FEEDS)[-len(made):]
    ranks |= {name: r.ndim for name, r in zip(made, results, strict=True)}
    assert [n.name for n in met if len({ranks[i] for i in n.input}) > 1] == []


@pytest.mark.parametrize("plan", [Plan(FP16, "guard", 0), Plan(BF16, "ceiling"), Plan(Q2_5, "scale"),
                                  Plan(INT8, "scale", 0, "mse"), Plan(Fixed(1, 10), "scale", 0, "pow2"),
                                  Plan(Fixed(0, 18), "guard", 0)], ids=str)
def test_onnxruntime_reads_what_is_predicted(tmp_path: Path, plan: Plan) -> None:
    """The file answers as the model with those weights that the reading in numpy gives."""
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, plan)
    plain = onnx.load(str(path))
    held = {r.name: r.values(tmp_path) for r in readings(out)}
    for tensor in plain.graph.initializer:
        if tensor.name in held:
            tensor.CopyFrom(numpy_helper.from_array(held[tensor.name], tensor.name))
    plain.graph.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(held["matmul"], "matmul"))
    for a, b in zip(run(plain.SerializeToString(), FEEDS), run(out, FEEDS), strict=True):
        assert a.tobytes() == b.tobytes()
    assert operators(out, tmp_path) == operators(path, tmp_path)


def tiny(path: Path) -> Path:
    nodes = [node("MatMul", ["x", "w1"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "w2"], ["y"])]
    tensors = {"w1": RNG.normal(size=(2, 3)).astype(np.float32), "w2": RNG.normal(size=(3, 2)).astype(np.float32)}
    return save(path, nodes, {"x": [1, 2]}, {"y": [1, 2]}, tensors)


@pytest.mark.parametrize("plan", [Plan(FP32, "guard", 0), Plan(FP16, "ceiling")], ids=["guard", "ceiling"])
def test_no_single_flip_of_a_constant_changes_anything(tmp_path: Path, plan: Plan) -> None:
    """Every bit of everything that was added, one at a time: bounds, factors, sizes, zeros."""
    path, out = tiny(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, plan)
    feeds = {"x": np.array([[0.3, -0.7]], np.float32)}
    expected, model = run(out, feeds)[0].tobytes(), onnx.load(str(out))
    added = [t for t in model.graph.initializer if not t.name.endswith("/stored")]
    assert sum(len(t.raw_data) for t in added) >= 3 * 4 * 2
    for tensor in added:
        clean = tensor.raw_data
        for bit in range(len(clean) * 8):
            struck = bytearray(clean)
            struck[bit // 8] ^= 1 << bit % 8
            tensor.raw_data = bytes(struck)
            assert run(model.SerializeToString(), feeds)[0].tobytes() == expected, (tensor.name, bit)
        tensor.raw_data = clean


def test_flips_of_guarded_weights_stay_in_range(tmp_path: Path) -> None:
    path, out = tiny(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, Plan(FP32, "guard", 0))
    model, feeds = onnx.load(str(out)), {"x": np.array([[0.3, -0.7]], np.float32)}
    clean, largest = run(out, feeds)[0], 0.0
    for tensor in (t for t in model.graph.initializer if t.name.endswith("/stored")):
        raw = tensor.raw_data
        for bit in range(len(raw) * 8):
            struck = bytearray(raw)
            struck[bit // 8] ^= 1 << bit % 8
            tensor.raw_data = bytes(struck)
            found = run(model.SerializeToString(), feeds)[0]
            largest = max(largest, float(np.abs(found - clean).max()))
        tensor.raw_data = raw
    assert 0.01 < largest < 20


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 21])
def test_opsets(tmp_path: Path, opset: int) -> None:
    path, out = onnx_zoo.save(onnx_zoo.classifier(opset), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    report = done(path, out, Plan(FP32, "guard", 0))
    made = onnx.load(str(out))
    wanted = opset if opset >= 11 else 13
    assert next(o.version for o in made.opset_import if not o.domain) == wanted
    assert any("raised to opset" in n for n in report.notes) == (opset < 11)
    feeds = {"image": RNG.normal(size=(2, *onnx_zoo.ITEM)).astype(np.float32)}
    assert run(path, feeds)[0].tobytes() == run(out, feeds)[0].tobytes()
    assert operators(out, tmp_path) == operators(path, tmp_path)
    assert {r.name for r in readings(out)} == {"conv.weight", "fc.weight"}
    onnx.checker.check_model(str(out), full_check=True)


@pytest.mark.parametrize("encoding", [FP32, FP16], ids=["kept", "fp16"])
def test_weights_apart_stay_apart(tmp_path: Path, encoding: Encoding) -> None:
    path, out = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "a.onnx", external=True), tmp_path / "b.onnx"
    before = (tmp_path / "a.onnx.bin").read_bytes()
    done(path, out, Plan(encoding, "guard", 0))
    assert store.locations(onnx.load(str(out), load_external_data=False)) == ["b.onnx.data"]
    assert (tmp_path / "a.onnx.bin").read_bytes() == before
    feeds = {"image": RNG.normal(size=(2, *onnx_zoo.ITEM)).astype(np.float32)}
    a, b = run(path, feeds)[0], run(out, feeds)[0]
    assert np.abs(a - b).max() < (1e-9 if encoding is FP32 else 0.1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.bin", "b.onnx", "b.onnx.data"]


def test_half_precision_models_stay_half(tmp_path: Path) -> None:
    model = onnx_zoo.classifier(dtype=np.float16)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(0.1), tensor.name))
    path, out = onnx_zoo.save(model, tmp_path / "a.onnx"), tmp_path / "b.onnx"
    for scheme in ("guard", "ceiling", "scale"):
        done(path, out, Plan(FP16, scheme, 0))  # type: ignore[arg-type]
        feeds = {"image": RNG.normal(size=(2, *onnx_zoo.ITEM)).astype(np.float16)}
        assert run(path, feeds)[0].tobytes() == run(out, feeds)[0].tobytes()
        assert {r.dtype for r in readings(out)} == {np.dtype(np.float16)}
        assert operators(out, tmp_path) == operators(path, tmp_path)


def test_taking_it_off_gives_the_model_back(tmp_path: Path) -> None:
    path, out, back = several(tmp_path / "a.onnx"), tmp_path / "b.onnx", tmp_path / "c.onnx"
    done(path, out, Plan(FP32, "ceiling", 0))
    assert unprotect(out, back) == 9
    a, c = onnx.load(str(path)), onnx.load(str(back))
    tensors = {t.name: numpy_helper.to_array(t) for t in c.graph.initializer}
    constant = a.graph.node[0]
    originals = {t.name: numpy_helper.to_array(t) for t in a.graph.initializer}
    originals[constant.output[0]] = numpy_helper.to_array(constant.attribute[0].t)
    assert tensors.keys() == originals.keys()
    assert all(np.array_equal(tensors[k], originals[k]) for k in tensors)
    assert [n.op_type for n in c.graph.node] == [n.op_type for n in a.graph.node if n.op_type != "Constant"]
    assert not mark(c)


def test_an_optimiser_strips_it_and_one_can_tell(tmp_path: Path) -> None:
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, Plan(FP32, "guard", 0))
    operators(out, tmp_path)
    stripped = onnx.load(str(tmp_path / "optimised.onnx"))
    assert not recognise(stripped, tmp_path) and mark(stripped)
    assert not recognise(onnx.load(str(path)), tmp_path) and not mark(onnx.load(str(path)))


def test_a_guard_of_another_tool_is_recognised_and_its_weakness_told(tmp_path: Path) -> None:
    """As the literature writes it: constants stored once."""
    nodes = [node("Mul", ["w", "c"], ["m"]), node("Abs", ["m"], ["a"]), node("LessOrEqual", ["a", "bound"], ["in"]),
             node("Where", ["in", "m", "zero"], ["v"]), node("MatMul", ["x", "v"], ["y"])]
    tensors = {"w": np.ones((2, 3), np.float32), "c": np.float32(0.5), "bound": np.full((1, 3), 0.5, np.float32),
               "zero": np.float32(0)}
    held = {k: np.asarray(v) for k, v in tensors.items()}
    path = save(tmp_path / "a.onnx", nodes, {"x": [1, 2]}, {"y": [1, 3]}, held)
    found = readings(path)
    assert [(r.name, r.scheme, r.voted, r.form.axis) for r in found] == [("v", "scale and guard", False, 1)]
    assert np.array_equal(found[0].values(tmp_path), np.full((2, 3), 0.5, np.float32))


def test_weight_normalisation_is_no_protection(tmp_path: Path) -> None:
    nodes = [node("Mul", ["w", "g"], ["v"]), node("MatMul", ["x", "v"], ["y"])]
    tensors = {"w": np.ones((2, 3), np.float32), "g": np.ones((1, 3), np.float32)}
    path = save(tmp_path / "a.onnx", nodes, {"x": [1, 2]}, {"y": [1, 3]}, tensors)
    assert not readings(path)


@pytest.mark.parametrize("external", [False, True])
def test_biases_and_statistics_are_voted_on_where_wanted(tmp_path: Path, external: bool) -> None:
    """Then no flip of any single bit in any constant is felt, and the graph is folded and fused as it was."""
    tensors = {"w": RNG.normal(size=(4, 3, 3, 3)), "b": RNG.normal(size=4), "scale": RNG.uniform(1, 2, 4),
               "mean": RNG.normal(size=4), "var": RNG.uniform(1, 2, 4), "shift": RNG.normal(size=4), "half": [0.5]}
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("Relu", ["n"], ["r"]), node("Mul", ["r", "half"], ["y"])]
    nodes.insert(1, node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]))
    path, out, back = (tmp_path / f"{n}.onnx" for n in "abc")
    held = {k: np.asarray(v, np.float32) for k, v in tensors.items()}
    save(path, nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 4, 2, 2]}, held)
    if external:
        onnx_zoo.save(onnx.load(str(path)), path, external=True)
    report = protect(path, out, by(Plan(FP32, "guard", 0)), {}, constants=True)
    assert report.changed == ["w"] and sorted(report.voted) == ["b", "half", "mean", "scale", "shift", "var"]
    feeds_ = {"x": RNG.normal(size=(1, 3, 4, 4)).astype(np.float32)}
    expected = run(path, feeds_)[0].tobytes()
    assert run(out, feeds_)[0].tobytes() == expected and operators(out, tmp_path) == operators(path, tmp_path)
    model = onnx.load(str(out))
    assert {t.name for t in model.graph.initializer if not t.name.startswith("fetafix/")} == {"w/stored"}
    for tensor in [t for t in model.graph.initializer if t.name.startswith("fetafix/") and t.raw_data]:
        clean = tensor.raw_data
        for bit in range(0, len(clean) * 8, 61 if external else 13):
            struck = bytearray(clean)
            struck[bit // 8] ^= 1 << bit % 8
            tensor.raw_data = bytes(struck)
            assert run(model.SerializeToString(), feeds_)[0].tobytes() == expected, (tensor.name, bit)
        tensor.raw_data = clean
    assert unprotect(out, back) == 7
    originals, plain = ({t.name: numpy_helper.to_array(t) for t in onnx.load(str(p)).graph.initializer}
                        for p in (path, back))
    assert originals.keys() == plain.keys() and all(np.array_equal(plain[k], v) for k, v in originals.items())


def test_refusals(tmp_path: Path) -> None:
    path, out = several(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    done(path, out, Plan(FP32, "guard"))
    with pytest.raises(UsageError, match="protected already"):
        done(out, tmp_path / "c.onnx", Plan(FP32, "guard"))
    with pytest.raises(OutputError, match="never changed"):
        done(path, path, Plan(FP32, "guard"))
    clash = onnx.load(str(path))
    clash.graph.node[2].output[0] = clash.graph.node[3].input[0] = "conv/within"
    onnx.save(clash, str(tmp_path / "clash.onnx"))
    with pytest.raises(EditError, match="rename"):
        done(tmp_path / "clash.onnx", tmp_path / "c.onnx", Plan(FP32, "guard"))
    external = onnx_zoo.save(onnx_zoo.classifier(9), tmp_path / "old.onnx", external=True)
    with pytest.raises(UsageError, match="version_converter"):
        done(external, tmp_path / "c.onnx", Plan(FP32, "guard"))
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_bounded_and_their_scales_voted_on(tmp_path: Path, kind: str) -> None:
    """The same answers, the same fused operators; a flip of a weight's scale changes nothing any more."""
    graph = residual(seed=3, channels=4)
    path, out, back = quantise(graph, kind, tmp_path), tmp_path / "b.onnx", tmp_path / "c.onnx"
    plan = Plan(INT8, "guard", 0)
    report = done(path, out, plan)
    assert report.voted and (report.changed or kind != "int8 per tensor")
    samples = feeds(graph, 1, 2)
    expected = run(path, samples)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, run(out, samples), strict=True))
    assert operators(out, tmp_path) == operators(path, tmp_path)
    model = onnx.load(str(out))
    for tensor in [t for t in model.graph.initializer if t.name.startswith("fetafix/") and t.raw_data]:
        clean = tensor.raw_data
        for bit in RNG.choice(len(clean) * 8, 2):
            struck = bytearray(clean)
            struck[bit // 8] ^= 1 << bit % 8
            tensor.raw_data = bytes(struck)
            found = run(model.SerializeToString(), samples)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, found, strict=True)), tensor.name
        tensor.raw_data = clean
    assert unprotect(out, back) == len(report.changed) + len(report.voted)
    originals, plain = ({t.name: numpy_helper.to_array(t) for t in onnx.load(str(p)).graph.initializer}
                        for p in (path, back))
    assert originals.keys() == plain.keys() and all(np.array_equal(plain[k], v) for k, v in originals.items())
    with pytest.raises(UsageError, match="protected already"):
        done(out, tmp_path / "d.onnx", plan)
