"""A condition of which one branch was recorded: the source's If comes back, for inputs of both kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fetafix import api
from fetafix.edits import apply
from fetafix.faults import get
from fetafix.graph.canonical import canonical
from fetafix.graph.conditions import conditions, data_decides
from fetafix.graph.proto import graph_from_model, model_from_graph
from fetafix.ir import Array, Body, Graph
from fetafix.report import Verdict
from tests.faults.models import renamed
from tests.faults.sites import broken, run
from tests.faults.support import EVALUATOR, with_shapes
from tests.faults.whole import heals, treated


def model(seed: int = 0, batch: int | str = 1) -> Graph:
    """Conv; where its map's mean is positive, a bright branch with weights of its own, else a dark one; a head."""
    rng = np.random.default_rng(seed)
    node, info = helper.make_node, helper.make_tensor_value_info

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype("f4"), name)

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        made = [weight(f"{name}_w", 6, 6, 3, 3), weight(f"{name}_b", 6)]
        return helper.make_graph(list(nodes), name, [], [info(nodes[-1].output[0], TensorProto.FLOAT, None)], made)

    pads = {"pads": [1, 1, 1, 1]}
    bright = branch("bright", node("Conv", ["r", "bright_w", "bright_b"], ["c1"], **pads), node("Relu", ["c1"], ["o1"]))
    dark = branch("dark", node("Conv", ["r", "dark_w", "dark_b"], ["c2"], **pads), node("Tanh", ["c2"], ["o2"]))
    nodes = [
        node("Conv", ["image", "w", "b"], ["c"], **pads), node("Relu", ["c"], ["r"], name="relu"),
        node("ReduceMean", ["image"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["sunny"]),
        node("If", ["sunny"], ["y"], name="choice", then_branch=bright, else_branch=dark),
        node("GlobalAveragePool", ["y"], ["p"]), node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w2", "b2"], ["scores"], transB=1),
    ]  # fmt: skip
    tensors = [weight("w", 6, 3, 3, 3), weight("b", 6), weight("w2", 5, 6), weight("b2", 5),
               numpy_helper.from_array(np.float32(0), "zero")]
    graph = helper.make_graph(nodes, "g", [info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
                              [info("scores", TensorProto.FLOAT, [batch, 5])], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(made)
    return graph_from_model(made)


def image(sunny: bool, seed: int = 0) -> dict[str, Array]:
    x = np.random.default_rng(seed).normal(0.4 if sunny else -0.4, 1, (1, 3, 8, 8))
    return {"image": x.astype(np.float32)}


def recorded(sunny: bool) -> Graph:
    """The model with only one of its branches."""
    source = with_shapes(model(), image(True))
    for seed in range(20):
        made = broken(get("cg-traced-branch"), source, seed)
        assert made is not None and not conditions(made[0])
        if ("Tanh" in {n.op for n in made[0].nodes}) != sunny:
            return canonical(made[0], EVALUATOR)
    raise AssertionError("both branches are drawn")


@pytest.mark.parametrize("sunny", [True, False])
def test_what_is_recorded_is_right_for_one_kind_of_input(sunny: bool) -> None:
    source, target = model(), recorded(sunny)
    for kind in (True, False):
        (a,), (b,) = run(source, image(kind)).values(), run(target, image(kind)).values()
        assert np.allclose(a, b, atol=1e-6) == (kind == sunny)


@pytest.mark.parametrize("other", [True, False], ids=["renamed", "same names"])
@pytest.mark.parametrize("sunny", [True, False])
def test_the_condition_comes_back(sunny: bool, other: bool) -> None:
    source, target = model(), recorded(sunny)
    target = renamed(target) if other else target
    treatment = heals(source, target, image(not sunny), "cg-traced-branch", image(not sunny, 3))
    assert len(conditions(treatment.target)) == 1
    for kind in (True, False):
        given = {target.input_names[0]: image(kind, 5)["image"]}
        (a,), (b,) = run(source, image(kind, 5)).values(), run(treatment.target, given).values()
        assert np.allclose(a, b, atol=1e-5)
    onnx.checker.check_model(model_from_graph(replace(treatment.target, shapes={})), full_check=True)


@pytest.mark.parametrize("sunny", [True, False])
def test_inputs_of_the_recorded_kind_show_nothing(sunny: bool) -> None:
    target = renamed(recorded(sunny))
    treatment = treated(model(), target, image(sunny))
    assert treatment.steps == () and treatment.target is target


@pytest.mark.parametrize("sunny", [True, False])
def test_the_same_condition_under_other_names_is_no_fault(sunny: bool) -> None:
    source = model()
    (node,) = conditions(source)
    attrs = {k: v for k, v in node.attrs.items() if isinstance(v, Body)}
    assert set(attrs) == {"then_branch", "else_branch"} and attrs["then_branch"].captures == ("r",)
    treatment = treated(source, apply(source, []), image(sunny))
    assert treatment.steps == ()


def test_one_sample_in_ten_shows_it_and_the_commands_repair_it(tmp_path: Path) -> None:
    target = renamed(recorded(True))
    for name, graph in (("a.onnx", model()), ("b.onnx", target)):
        onnx.save(model_from_graph(replace(graph, shapes={})), str(tmp_path / name))
    dark = {3, 9, 17, 22, 25, 31}
    rows = [image(i not in dark, i)["image"][0] for i in range(40)]
    np.save(tmp_path / "x.npy", np.stack(rows))
    options = api.Options(data=tmp_path / "x.npy", samples=40, threads=1, gate="numeric")
    out = tmp_path / "c.onnx"
    report = api.repair(tmp_path / "a.onnx", tmp_path / "b.onnx", options, api.RepairOptions(output=out, apply=True))
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["cg-traced-branch"]
    again = api.repair(tmp_path / "a.onnx", out, options, api.RepairOptions(output=tmp_path / "d.onnx", apply=True))
    assert again.verdict is Verdict.EQUIVALENT and again.findings == [] and again.output is None


def test_an_if_that_shapes_decide_is_no_choice() -> None:
    """As torch's exporter squeezes an axis: if it has one pixel."""
    graph = model()
    (choice,) = conditions(graph)
    assert data_decides(graph, choice)
    mean = next(n for n in graph.nodes if n.op == "ReduceMean")
    shaped = replace(graph, nodes=tuple(replace(n, op="Size", attrs={}) if n is mean else n for n in graph.nodes))
    assert not data_decides(shaped, conditions(shaped)[0])
    # In the segment of a fault, the tensor that decides may come from outside, and counts as a value.
    assert data_decides(graph.between(["sunny", "r"], ["y"]), choice)
