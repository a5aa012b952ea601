"""Optimised graphs: a fused operator that does something else is set right or un-fused; sound fusions are no fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fetafix.edits import SetAttribute, apply
from fetafix.faults import get
from fetafix.graph.canonical import canonical
from fetafix.graph.fusions import Pair, activation, fused, pairs
from fetafix.graph.proto import load_graph, model_from_graph
from fetafix.ir import Graph, Value
from tests.faults.models import renamed, residual
from tests.faults.sites import broken, cnn, feeds_of
from tests.faults.support import EVALUATOR, Builder, feeds_for, with_shapes
from tests.faults.whole import heals, treated


def attention() -> Graph:
    """Scores of queries and keys, scaled and weighted, added to what came in, normalised, and a head."""
    b = Builder(3)
    x = b.input((2, 5, 8), "tokens")
    q, k = (b.op("MatMul", x, b.weight(8, 8)) for _ in range(2))
    scores = b.op("Div", b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1))), np.array(8**0.5, np.float32))
    y = b.op("Add", b.op("MatMul", b.op("Softmax", scores, axis=-1), x), x)
    y = b.op("LayerNormalization", y, b.normal(8, mean=1, scale=0.2), b.normal(8), axis=-1, epsilon=1e-5)
    y = b.op("Relu", b.op("Gemm", b.op("Reshape", y, np.array([-1, 40])), b.weight(6, 40), b.normal(6), transB=1))
    return b.build(b.op("Gemm", y, b.weight(4, 6), b.normal(4), transB=1))


def shaped(make: Callable[[], Graph]) -> Graph:
    graph = make()
    return graph if graph.inputs[0].name == "tokens" else with_shapes(graph, feeds_of(graph))


def feeds(graph: Graph, seed: int = 1) -> dict[str, np.ndarray]:
    return feeds_for(graph, seed) if graph.inputs[0].name == "tokens" else feeds_of(graph, seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [residual, lambda: residual(act="LeakyRelu", alpha=0.2), attention])
def test_a_wrong_fusion_is_named_and_put_right(make: Callable[[], Graph], seed: int) -> None:
    source = shaped(make)
    made = broken(get("cg-bad-fusion"), renamed(source), seed)
    assert made is not None and len(fused(made[0])) == 1
    treatment = heals(source, made[0], feeds(source), "cg-bad-fusion", feeds(source, 8))
    (step,) = treatment.steps
    assert step.remedy is not None and all(isinstance(e, SetAttribute) for e in step.edits), step.edits


def test_what_cannot_be_set_right_is_unfused() -> None:
    source = shaped(cnn)
    made = broken(get("cg-bad-fusion"), renamed(source), 0)
    assert made is not None
    (node,) = fused(made[0])
    weight = node.inputs[1]
    spoiled = replace(made[0], initializers={**made[0].initializers, weight: made[0].initializers[weight] + 1})
    treatment = heals(source, spoiled, feeds(source), "cg-bad-fusion")
    assert fused(treatment.target) == []


def sound(graph: Graph, pair: Pair) -> Graph | None:
    part = activation(pair.second, graph)
    if part is None or pair.first.op not in ("Conv", "Gemm"):
        return None
    op = f"Fused{pair.first.op}"
    return apply(graph, [pair.fusing(graph, op, {**pair.first.attrs, **part.attributes(op)})])


@pytest.mark.parametrize("make", [residual, attention])
def test_sound_fusions_are_no_fault(make: Callable[[], Graph]) -> None:
    source = target = shaped(make)
    for pair in pairs(source):
        target = sound(target, pair) or target
    assert fused(target)
    target = renamed(target)
    treatment = treated(source, target, feeds(source))
    assert treatment.steps == () and treatment.target is target


@pytest.mark.parametrize("make", [residual, attention])
def test_what_onnx_runtime_optimises_is_no_fault(make: Callable[[], Graph], tmp_path: Path) -> None:
    source = shaped(make)
    onnx.save(model_from_graph(replace(source, shapes={})), str(tmp_path / "plain.onnx"))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(tmp_path / "plain.onnx"), options)
    target = canonical(load_graph(tmp_path / "optimised.onnx"), EVALUATOR)
    assert len(target.nodes) < len(source.nodes)
    treatment = treated(source, target, feeds(source))
    assert treatment.steps == () and treatment.target is target


def normalised(epsilon: float | None) -> Graph:
    """A sum and its normalisation: fused with an epsilon, or spelled out (None)."""
    b = Builder(3)
    x = b.input((2, 5, 8), "tokens")
    y, gamma, beta = b.op("MatMul", x, b.weight(8, 8)), b.normal(8, mean=1, scale=0.2), b.normal(8)
    if epsilon is None:
        y = b.op("Add", y, x)
        y = b.op("Sub", y, b.op("ReduceMean", y, axes=(-1,)))
        variance = b.op("ReduceMean", b.op("Mul", y, y), axes=(-1,))
        y = b.op("Div", y, b.op("Sqrt", b.op("Add", variance, np.array(1e-5, np.float32))))
        y = b.op("Add", b.op("Mul", y, gamma), beta)
    else:
        y = b.op("SkipLayerNormalization", y, x, gamma, beta, domain="com.microsoft", epsilon=epsilon)
    y = b.op("Gemm", b.op("Reshape", y, np.array([-1, 40])), b.weight(6, 40), b.normal(6), transB=1)
    made = Value(y, np.dtype(np.float32))
    return Graph(tuple(b.nodes), dict(b.tensors), tuple(b.inputs), (made,), {"": 17, "com.microsoft": 1})


def test_an_epsilon_is_taken_from_a_normalisation_that_is_spelled_out() -> None:
    source = with_shapes(normalised(None), feeds_for(normalised(None)))
    sound_one = renamed(normalised(1e-5))
    assert treated(source, sound_one, feeds(source)).steps == ()
    treatment = heals(source, renamed(normalised(0.3)), feeds(source), "cg-bad-fusion", feeds(source, 4))
    (node,) = fused(treatment.target)
    assert node.attrs["epsilon"] == pytest.approx(1e-5)
