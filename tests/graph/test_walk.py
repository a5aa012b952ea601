"""Localization by teacher forcing: every fault at the operator that introduces it, all at once, nothing else blamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import Edit, InsertNode, RemoveNode, Rewire, SetAttribute, SetInput, SetOperator, apply
from fetafix.graph.align import Aligner, Alignment, InputTwin
from fetafix.graph.fold import fold
from fetafix.graph.segment import Layout
from fetafix.ir import Array, Graph, Node
from tests.faults.models import gated, heads, renamed, residual, residual_nhwc
from tests.faults.support import EVALUATOR, NHWC, Builder

SAME = Layout()


def images(batch: int = 2) -> Array:
    return np.random.default_rng(5).standard_normal((batch, 3, 12, 12)).astype(np.float32)


def align(source: Graph, target: Graph, x: Array, layout: Layout = SAME) -> Alignment:
    aligner = Aligner(source, {source.input_names[0]: x}, EVALUATOR)
    outputs = dict(zip(target.output_names, source.output_names, strict=True))
    return aligner.align(target, (InputTwin(target.input_names[0], source.input_names[0], layout),), outputs)


def of(graph: Graph, op: str) -> list[str]:
    return [n.key for n in graph.nodes if n.op == op]


def noise(graph: Graph, key: str, size: float = 0.05) -> Edit:
    weight = graph.constant(graph.node(key), 1)
    assert weight is not None
    return SetInput(key, 1, weight + size * np.random.default_rng(1).standard_normal(weight.shape).astype(np.float32))


def folded(graph: Graph) -> Graph:
    """The graph with every BatchNormalization folded into the Conv before it."""
    for key in of(graph, "BatchNormalization"):
        norm = graph.node(key)
        conv = graph.producers[norm.inputs[0]]
        found = fold([conv, norm], graph)
        assert found is not None
        tensors = {**graph.initializers, f"{key}_w": found.weight.astype(np.float32),
                   f"{key}_b": found.bias.astype(np.float32)}
        merged = replace(conv, inputs=(conv.inputs[0], f"{key}_w", f"{key}_b"), outputs=(key,))
        nodes = tuple(merged if n is norm else n for n in graph.nodes if n is not conv)
        graph = replace(graph, nodes=nodes, initializers=tensors)
    return graph


HEALTHY: dict[str, Callable[[], tuple[Graph, Graph, Layout]]] = {
    "itself": lambda: (residual(), residual(), Layout()),
    "renamed": lambda: (residual(), renamed(residual()), Layout()),
    "folded": lambda: (residual(), renamed(folded(residual())), Layout()),
    "unfolded": lambda: (folded(residual()), renamed(residual()), Layout()),
    "channels last": lambda: (residual(), renamed(residual_nhwc()), Layout(NHWC)),
    "gates": lambda: (gated(), renamed(gated()), Layout()),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("batch", [1, 2])
def test_equivalent_models_have_no_guilty_segment(name: str, batch: int) -> None:
    source, target, layout = HEALTHY[name]()
    alignment = align(source, target, images(batch), layout)
    assert alignment.segments() == []
    assert alignment.unmatched == ()


def two_convolutions(graph: Graph) -> list[Edit]:
    a, b = of(graph, "Conv")[1:3]
    return [noise(graph, a), noise(graph, b)]


def conv_and_activation(graph: Graph) -> list[Edit]:
    return [noise(graph, of(graph, "Conv")[0]), SetOperator(of(graph, "Relu")[1], "Tanh")]


FAULTS: dict[str, tuple[Callable[[Graph], Sequence[Edit]], Callable[[Graph], set[str]]]] = {
    "weights": (lambda g: [noise(g, of(g, "Conv")[1])], lambda g: {of(g, "Conv")[1]}),
    "tiny error": (lambda g: [noise(g, of(g, "Conv")[1], 1e-3)], lambda g: {of(g, "Conv")[1]}),
    "operator": (lambda g: [SetOperator(of(g, "Relu")[1], "Tanh")], lambda g: {of(g, "Relu")[1]}),
    "attribute": (
        lambda g: [SetAttribute(of(g, "BatchNormalization")[1], "epsilon", 0.3)],
        lambda g: {of(g, "BatchNormalization")[1]},
    ),
    "pooling": (
        lambda g: [SetOperator(of(g, "MaxPool")[0], "AveragePool", dict(g.node(of(g, "MaxPool")[0]).attrs))],
        lambda g: {of(g, "MaxPool")[0]},
    ),
    "operand": (
        lambda g: [Rewire(of(g, "Add")[0], 1, g.node(of(g, "Add")[0]).inputs[0])], lambda g: {of(g, "Add")[0]},
    ),
    "classifier": (lambda g: [noise(g, of(g, "Gemm")[0])], lambda g: {of(g, "Gemm")[0]}),
    "neighbours": (two_convolutions, lambda g: set(of(g, "Conv")[1:3])),
    "far apart": (conv_and_activation, lambda g: {of(g, "Conv")[0], of(g, "Relu")[1]}),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_at_the_operators_that_introduce_them(name: str, batch: int) -> None:
    edits, guilty = FAULTS[name]
    source, target = residual(), renamed(residual())
    segments = align(source, apply(target, edits(target)), images(batch)).segments()
    assert {s.goal.target for s in segments} == guilty(target)
    assert all(s.error > s.tolerance for s in segments)
    assert {f"v_{s.goal.source}" for s in segments} == guilty(target)


def test_a_missing_activation_shows_at_the_operator_behind_it() -> None:
    source, target = residual(), renamed(residual())
    gone = of(target, "Relu")[1]
    (reader,) = [n for n, _ in target.consumers[gone]]
    segments = align(source, apply(target, [RemoveNode(gone)]), images()).segments()
    assert [s.goal.target for s in segments] == [reader.key]
    (segment,) = segments
    assert [n.op for n in segment.target.nodes] == ["Conv"]
    assert [n.op for n in segment.source.nodes] == ["Relu", "Conv"]


def test_an_extra_operator_is_found_itself() -> None:
    source, target = residual(), renamed(residual())
    conv = of(target, "Conv")[1]
    edit = InsertNode(conv, Node("Tanh", (conv,), ("v_extra",)))
    (segment,) = align(source, apply(target, [edit]), images()).segments()
    assert segment.goal.target == "v_extra"
    assert segment.source.nodes == ()


def test_a_fault_in_a_folded_target_is_found_at_its_convolution() -> None:
    source, target = residual(), renamed(folded(residual()))
    conv = of(target, "Conv")[1]
    (segment,) = align(source, apply(target, [noise(target, conv)]), images()).segments()
    assert segment.goal.target == conv
    assert [n.op for n in segment.source.nodes] == ["Conv", "BatchNormalization"]


def test_a_fault_in_a_channels_last_target_is_found() -> None:
    source, target = residual(), renamed(residual_nhwc())
    conv = of(target, "Conv")[1]
    segments = align(source, apply(target, [noise(target, conv)]), images(), Layout(NHWC)).segments()
    assert [conv in {n.key for n in s.target.nodes} for s in segments] == [True]


def test_a_segment_that_cannot_run_is_guilty_and_says_why() -> None:
    source, target = residual(), renamed(residual())
    conv = of(target, "Conv")[1]
    weight = target.constant(target.node(conv), 1)
    assert weight is not None
    broken = apply(target, [SetInput(conv, 1, weight[:, :-1])])
    segments = align(source, broken, images()).segments()
    assert [s.goal.target for s in segments] == [conv]
    assert segments[0].error == float("inf")
    assert "Conv" in segments[0].failure


def test_only_the_guilty_one_of_two_outputs_is_blamed() -> None:
    source, target = heads(), renamed(heads())
    wrong = target.node(target.output_names[1]).inputs[0]
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    (segment,) = align(source, apply(target, [noise(target, wrong)]), x).segments()
    assert segment.goal.target == wrong


def test_rounding_is_not_blamed() -> None:
    source, target = residual(), renamed(residual())
    conv = of(target, "Conv")[1]
    weight = target.constant(target.node(conv), 1)
    assert weight is not None
    nudged = apply(target, [SetInput(conv, 1, np.nextafter(weight, np.float32(np.inf)))])
    assert align(source, nudged, images()).segments() == []


def test_a_trial_on_the_segment_tells_what_an_edit_would_do() -> None:
    source, target = residual(), renamed(residual())
    conv = of(target, "Conv")[1]
    (segment,) = align(source, apply(target, [noise(target, conv)]), images()).segments()
    assert segment.healed(segment.trial([SetInput(conv, 1, target.constant(target.node(conv), 1))]))
    assert segment.trial([]) == pytest.approx(segment.error)
    assert segment.trial([SetAttribute("nowhere", "x", 1)]) == float("inf")
    assert segment.trial([SetAttribute(conv, "strides", (2, 2))]) == float("inf")


def test_integer_inputs_and_lookups_align() -> None:
    def model() -> Graph:
        b = Builder(3)
        table = b.normal(50, 8)
        x = b.op("Gather", table, b.input((2, 6), "ids"))
        x = b.op("Add", b.op("MatMul", x, b.weight(8, 8)), b.normal(8))
        return b.build(b.op("MatMul", b.op("Tanh", x), b.weight(8, 5)))

    graph = model()
    ids = np.random.default_rng(0).integers(0, 50, (2, 6))
    graph = replace(graph, inputs=tuple(replace(v, dtype=np.dtype(np.int64)) for v in graph.inputs))
    target = renamed(graph)
    assert align(graph, target, ids).segments() == []
    key = of(target, "MatMul")[0]
    (segment,) = align(graph, apply(target, [noise(target, key)]), ids).segments()
    assert segment.goal.target == key
