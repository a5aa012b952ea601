"""Folded chains compute what the chain computes; unfolding writes it into another form."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.edits import SetAttribute, SetInput, apply
from fetafix.graph.fold import Folded, chains
from fetafix.graph.parameters import differing, pairs, parameters, setting
from fetafix.graph.solve import solve
from fetafix.ir import Graph
from tests.faults import support


def _apply(folded: Folded, graph: Graph) -> np.ndarray:
    """The folded layer run as one operator on the graph's input."""
    (x,) = support.feeds_for(graph).values()
    b = support.Builder(0)
    weight, bias = folded.weight.astype(np.float32), folded.bias.astype(np.float32)
    if folded.kind == "matrix":
        made = b.op("Gemm", b.input(x.shape), weight, bias)
    else:
        attrs = {k: v for k, v in graph.nodes[0].attrs.items() if k != "kernel_shape"}
        made = b.op({"conv": "Conv", "convT": "ConvTranspose"}[folded.kind], b.input(x.shape), weight, bias, **attrs)
    small = b.build(made)
    return support.run(small, {"input_0": x}, small.output_names)[0]


def _conv_chain(op: str, group: int) -> Graph:
    b = support.Builder(1)
    shape = (8, 4 // group, 3, 3) if op == "Conv" else (4, 8 // group, 3, 3)
    x = b.op(op, b.input((2, 4, 6, 6)), b.weight(*shape), b.normal(8), group=group, pads=(1, 1, 1, 1))
    x = b.op("Mul", b.op("Add", x, b.normal(8, 1, 1)), b.normal(1, 8, 1, 1))
    x = b.op("Sub", np.asarray(b.normal(8, 1, 1)), b.batchnorm(x, 8))
    return b.build(b.op("Div", x, b.normal(1, 8, 1, 1, mean=3.0, scale=0.2)))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_convolution_chains(op: str, group: int) -> None:
    graph = _conv_chain(op, group)
    (chain,) = chains(graph)
    assert len(chain.nodes) == 6 and chain.folded is not None
    (wanted,) = support.run(graph, support.feeds_for(graph), graph.output_names)
    np.testing.assert_allclose(_apply(chain.folded, graph), wanted, atol=1e-4)


def test_bias_behind_a_transpose() -> None:
    b = support.Builder(0)
    x = b.op("Transpose", b.op("Conv", b.input((2, 3, 5, 5)), b.weight(4, 3, 1, 1)), perm=support.NHWC)
    graph = b.build(b.op("Add", x, b.normal(4)))
    (chain,) = chains(graph)
    assert chain.folded is not None
    np.testing.assert_allclose(chain.folded.bias, graph.initializers[graph.nodes[2].inputs[1]], rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_gemm_and_matmul_chains(alpha: float) -> None:
    graph = apply(support.gemm(0, square=False), [SetAttribute("t0", "alpha", alpha), SetAttribute("t0", "beta", 2.0)])
    (chain,) = chains(graph)
    assert chain.folded is not None
    (wanted,) = support.run(graph, support.feeds_for(graph), graph.output_names)
    np.testing.assert_allclose(_apply(chain.folded, graph), wanted, atol=1e-5)


def test_what_is_not_per_channel_ends_a_chain() -> None:
    b = support.Builder(0)
    x = b.op("Conv", b.input((2, 3, 5, 5)), b.weight(4, 3, 1, 1))
    graph = b.build(b.op("Add", x, b.normal(1, 4, 5, 5)))
    assert [[n.op for n in c.nodes] for c in chains(graph)] == [["Conv"]]


def test_branches_end_a_chain() -> None:
    b = support.Builder(0)
    x = b.op("Conv", b.input((2, 3, 5, 5)), b.weight(3, 3, 1, 1))
    graph = b.build(b.op("Mul", b.batchnorm(x, 3), x))
    assert [[n.op for n in c.nodes] for c in chains(graph)] == [["Conv"], ["BatchNormalization"]]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_unfolding_onto_a_long_chain(op: str, group: int) -> None:
    """The source is one convolution; the target the same through six nodes, its weight and last bias wrong."""
    target = _conv_chain(op, group)
    effective = chains(target)[0].folded
    assert effective is not None
    b = support.Builder(5)
    source = b.build(b.op(op, b.input((2, 4, 6, 6)), effective.weight.astype(np.float32),
                          effective.bias.astype(np.float32), group=group, pads=(1, 1, 1, 1)))
    weight = target.initializers[target.nodes[0].inputs[1]]
    broken = apply(target, [SetInput("t0", 1, weight[::-1].copy()), SetInput("t4", 0, b.normal(8, 1, 1))])
    segment = support.segment_for(source, broken)
    assert segment.error > 0.1
    assert segment.trial(setting(segment, differing(segment))) < 1e-5


def test_references_of_equal_forms_are_exact() -> None:
    graph = support.conv_bn(0)
    segment = support.segment_for(graph, support.conv_bn(0))
    assert len(pairs(segment)) == 1
    found = parameters(segment)
    assert len(found) == 6 and all(p.direct and not p.differs for p in found)


@pytest.mark.parametrize("zoo", ["conv", "conv_strided", "conv_dilated", "gemm"])
def test_solving_recovers_parameters(zoo: str) -> None:
    graph = support.ZOO[zoo](0)
    node = graph.nodes[0]
    rng = np.random.default_rng(0)
    shape = tuple(int(d) for d in graph.inputs[0].shape or ())
    x = rng.standard_normal((16 * shape[0], *shape[1:])).astype(np.float32)
    (y,) = support.run(graph, {graph.input_names[0]: x}, graph.output_names)
    found = solve(node, graph, x, y)
    assert found is not None
    for slot, value in enumerate(found, start=1):
        np.testing.assert_allclose(value, graph.constant(node, slot), atol=1e-4)


def test_too_few_samples_solve_nothing() -> None:
    graph = support.gemm(0)
    feeds = support.feeds_for(graph)
    (y,) = support.run(graph, feeds, graph.output_names)
    assert solve(graph.nodes[0], graph, feeds["input_0"], y) is None
