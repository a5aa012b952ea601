"""Segment faults where source and target hold the same function in different forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute, SetInput, SetOperator, apply
from fetafix.graph.fold import chains
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node
from tests.faults import support
from tests.faults.segment_types import TYPES, best_error, suspicions


def folded(graph: Graph) -> Graph:
    """The graph with its BatchNormalization folded into the Conv, rightly."""
    chain = chains(graph)[0]
    effective = chain.folded
    assert effective is not None
    conv, batchnorm = chain.nodes
    weight, bias = effective.weight.astype(np.float32), effective.bias.astype(np.float32)
    return apply(graph, [SetInput(conv.key, 1, weight), SetInput(conv.key, 2, bias), RemoveNode(batchnorm.key)])


def channels_last(graph: Graph) -> Graph:
    """A graph of one four-dimensional input and output in NHWC, with Transposes around."""
    name, out = graph.input_names[0], graph.output_names[0]
    shape = graph.inputs[0].shape
    assert shape is not None
    inner = Node("Transpose", (name,), ("nchw",), {"perm": support.NCHW}, "to_nchw")
    made = apply(graph, [InsertNode(name, inner)])
    made = apply(made, [InsertNode(out, Node("Transpose", (out,), ("nhwc",), {"perm": support.NHWC}, "to_nhwc"))])
    value = replace(graph.inputs[0], shape=tuple(shape[i] for i in support.NHWC))
    made = replace(made, inputs=(value,))
    return support.with_shapes(made, support.feeds_for(made))


def expect(segment: Segment, code: str, tolerance: float = 2e-6) -> None:
    """The surest claim is this code, and a proposal of it heals."""
    assert segment.error > 1e-4
    found = suspicions(segment)
    assert found and found[0].code == code, [(s.code, s.confidence, s.explanation) for s in found[:4]]
    assert best_error(segment, found[0]) <= tolerance


def nhwc_segment(source: Graph, target: Graph) -> Segment:
    return support.segment_for(source, target, perms={target.input_names[0]: support.NHWC}, goal_perm=support.NHWC)


EQUIVALENT: dict[str, Callable[[], Segment]] = {
    "folded": lambda: support.segment_for(support.conv_bn(1), folded(support.conv_bn(1))),
    "unfolded": lambda: support.segment_for(folded(support.conv_bn(1)), support.conv_bn(1)),
    "nhwc": lambda: nhwc_segment(support.conv(1), channels_last(support.conv(1))),
    "nhwc softmax": lambda: nhwc_segment(support.softmax(1), channels_last(support.softmax(1))),
    "nhwc depthwise": lambda: nhwc_segment(support.depthwise(1), channels_last(support.depthwise(1))),
    "auto_pad": lambda: support.segment_for(support.conv_same(1), support.conv(1, stride=2, auto_pad="SAME_UPPER")),
    "gemm matmul": lambda: support.segment_for(support.gemm(1, trans_b=0), support.matmul_add(1)),
}


@pytest.mark.parametrize("name", EQUIVALENT)
def test_silent_on_equivalent_forms(name: str) -> None:
    segment = EQUIVALENT[name]()
    assert segment.error <= segment.tolerance
    assert suspicions(segment) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "code", ["wb-kernel-flip", "wb-bias", "wb-weights", "wb-precision", "st-storage", "wb-kernel-layout"])
@pytest.mark.parametrize("fold_target", [True, False])
def test_folded_against_unfolded(code: str, seed: int, fold_target: bool) -> None:
    plain, merged = support.conv_bn(seed), folded(support.conv_bn(seed))
    source, target = (plain, merged) if fold_target else (merged, plain)
    rng = np.random.default_rng(seed)
    edits = TYPES[code].inject(target, rng)
    assert edits
    segment = support.segment_for(source, apply(target, edits))
    expected = {code, "wb-weights", "wb-bn-fold"} if code in ("st-storage", "wb-bias") else {code}
    found = suspicions(segment)
    assert found[0].code in expected, [(s.code, s.confidence) for s in found]
    assert min(best_error(segment, s) for s in found) <= 2e-6


@pytest.mark.parametrize("seed", range(4))
def test_misfold_is_named(seed: int) -> None:
    source = support.conv_bn(seed)
    edits = TYPES["wb-bn-fold"].inject(source, np.random.default_rng(seed + 10))
    assert edits
    expect(support.segment_for(source, apply(source, edits)), "wb-bn-fold")


@pytest.mark.parametrize("seed", range(4))
def test_swapped_batchnorm_against_folded_source(seed: int) -> None:
    target = support.conv_bn(seed)
    edits = TYPES["wb-bn-param-swap"].inject(target, np.random.default_rng(seed))
    assert edits
    expect(support.segment_for(folded(target), apply(target, edits)), "wb-bn-param-swap")


@pytest.mark.parametrize("code", ["wb-kernel-flip", "lh-dilation", "wb-bias", "tss-transpose", "wb-kernel-layout"])
@pytest.mark.parametrize("seed", range(3))
def test_channels_last_target(code: str, seed: int) -> None:
    source, target = support.conv(seed), channels_last(support.conv(seed))
    edits = TYPES[code].inject(target, np.random.default_rng(seed))
    assert edits
    expect(nhwc_segment(source, apply(target, edits)), code)


def test_softmax_axis_in_another_layout() -> None:
    b = support.Builder(0)
    target = b.build(b.op("Softmax", b.input((2, 4, 4, 5)), axis=1))  # NCHW's number kept
    source = support.softmax(0)
    segment = nhwc_segment(source, target)
    expect(segment, "lh-softmax-axis")
    assert suspicions(segment)[0].evidence["source_axis"] == 3


def test_pad_node_lost() -> None:
    source = support.pad_conv(0)
    expect(support.segment_for(source, apply(source, [RemoveNode("t0")])), "lh-pads-lost")


@pytest.mark.parametrize(("pads", "code"), [((1, 1, 1, 1), "lh-same-asym"), ((1, 1, 0, 0), "tss-pad-field-order")])
def test_pad_node_of_the_source_against_wrong_pads(pads: tuple[int, ...], code: str) -> None:
    source = support.pad_conv(0)
    target = apply(source, [RemoveNode("t0"), SetAttribute("t1", "pads", pads)])
    expect(support.segment_for(source, target), code)


def test_pad_node_of_the_target_is_used_up_first() -> None:
    target = support.pad_conv(0)
    source = apply(target, [RemoveNode("t0"), SetAttribute("t1", "pads", (1, 1, 1, 1))])
    expect(support.segment_for(source, target), "lh-pads-lost")


def test_relu_for_relu6() -> None:
    source = support.clip(0)
    target = apply(source, [SetOperator("t1", "Relu", {}, ("t0",))])
    expect(support.segment_for(source, target), "lh-relu6-max")


def test_clip_of_an_old_opset() -> None:
    source, target = support.clip(0), support.clip(0, opset=7)
    assert suspicions(support.segment_for(source, target)) == []
    expect(support.segment_for(source, apply(target, [SetAttribute("t1", "max", None)])), "lh-relu6-max")


def test_leaky_relu_for_prelu() -> None:
    source = support.prelu(0)
    target = apply(source, [SetOperator("t0", "LeakyRelu", {"alpha": 0.01}, source.input_names)])
    expect(support.segment_for(source, target), "lh-leaky-alpha")


def test_matmul_without_its_add() -> None:
    source = support.matmul_add(0)
    expect(support.segment_for(source, apply(source, [RemoveNode("t1")])), "wb-bias")


def test_matmul_of_three_dimensions_without_its_add() -> None:
    b = support.Builder(0)
    source = b.build(b.op("Add", b.op("MatMul", b.input((2, 3, 6)), b.weight(6, 5)), b.normal(5)))
    expect(support.segment_for(source, apply(source, [RemoveNode("t1")])), "wb-bias")


@pytest.mark.parametrize("trans_b", [0, 1])
def test_transposed_matrix_across_forms(trans_b: int) -> None:
    source, target = support.matmul_add(0), support.gemm(0, trans_b=trans_b)
    weight = source.initializers[source.nodes[0].inputs[1]]
    wrong: list[Edit] = [SetInput("t0", 1, weight if trans_b else weight.T.copy())]
    wrong.append(SetInput("t0", 2, source.initializers[source.nodes[1].inputs[1]]))
    expect(support.segment_for(source, apply(target, wrong)), "tss-transB")


def test_flatten_of_a_channels_last_map() -> None:
    """The target flattens (H, W, C) without a Transpose; its matrix still expects (C, H, W)."""
    source = support.flatten_gemm(0)
    target = apply(source, [])
    target = replace(target, inputs=(replace(target.inputs[0], shape=(2, 4, 4, 3)),))
    perms = {target.input_names[0]: support.NHWC}
    segment = support.segment_for(source, target, perms=perms)
    expect(segment, "tss-flatten-order")


def test_solved_by_least_squares() -> None:
    b = support.Builder(0)
    hidden = b.op("MatMul", b.input((64, 8)), b.weight(8, 10))
    source = b.build(b.op("Gemm", hidden, b.weight(5, 10), b.normal(5), transB=1))
    c = support.Builder(1)
    target = c.build(c.op("Gemm", c.input((64, 8)), c.weight(5, 8), c.normal(5), transB=1))
    expect(support.segment_for(source, target), "wb-weights", 1e-5)


def test_parameters_of_other_operators() -> None:
    b = support.Builder(0)
    rnn = (b.weight(1, 16, 3), b.weight(1, 16, 4), b.normal(1, 32))
    source = b.build(b.op("LSTM", b.input((5, 2, 3)), *rnn, outputs=3, hidden_size=4))
    target = apply(source, [SetInput("t0", 2, np.roll(rnn[1], 4, 1))])
    segment = support.segment_for(source, target)
    assert min(best_error(segment, s) for s in suspicions(segment)) <= 1e-6


def test_two_faults_at_one_layer_are_both_named() -> None:
    source = support.conv(0)
    weight = source.initializers[source.nodes[0].inputs[1]]
    target = apply(source, [SetInput("t0", 1, weight[:, :, ::-1, ::-1].copy()), SetInput("t0", 2, None)])
    segment = support.segment_for(source, target)
    assert {"wb-kernel-flip", "wb-bias"} <= {s.code for s in suspicions(segment)}
    generic = next(s for s in suspicions(segment) if s.code == "wb-weights")
    assert best_error(segment, generic) <= 1e-6
