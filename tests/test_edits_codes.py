"""Constants stored as codes: seen dequantised, set on their own grid, in the same form."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.edits import Rewire, SetInput, apply, cost
from fetafix.ir import Graph
from tests.faults.support import EVALUATOR
from tests.quantised import NETWORKS, feeds, quantised

GRAPH = quantised(NETWORKS["residual"](), "int8 per channel")
CONV = next(n for n in GRAPH.nodes if n.op == "Conv")
FEEDS = feeds(GRAPH, 3)


def answer(graph: Graph) -> np.ndarray:
    return EVALUATOR.run(graph, FEEDS, graph.output_names)[0]


def weight(graph: Graph) -> np.ndarray:
    value = graph.constant(graph.node(CONV.key), 1)
    assert value is not None
    return value


def test_a_quantised_weight_is_a_constant() -> None:
    made = GRAPH.producers[CONV.input(1)]
    assert made.op == "DequantizeLinear" and GRAPH.fixed(CONV.input(1)) and not GRAPH.fixed(CONV.input(0))
    (true,) = EVALUATOR.run(GRAPH, {}, [CONV.input(1)])
    assert np.array_equal(weight(GRAPH), true)


def test_setting_a_value_changes_the_codes_alone() -> None:
    flipped = np.ascontiguousarray(weight(GRAPH)[:, :, ::-1, ::-1])
    after = apply(GRAPH, [SetInput(CONV.key, 1, flipped)])
    assert np.array_equal(weight(after), flipped)
    assert [n.op for n in after.nodes] == [n.op for n in GRAPH.nodes]
    changed = {k for k, v in after.initializers.items() if v is not GRAPH.initializers.get(k)}
    assert len(changed) == 1 and after.initializers[changed.pop()].dtype == np.int8
    assert np.array_equal(answer(apply(after, [SetInput(CONV.key, 1, weight(GRAPH))])), answer(GRAPH))


def test_a_value_off_the_grid_is_rounded_and_a_large_one_gets_a_larger_scale() -> None:
    grid = GRAPH.grid(CONV.input(1))
    assert grid is not None
    step = grid.step(4)
    near = weight(GRAPH) + 0.3 * step
    assert np.array_equal(weight(apply(GRAPH, [SetInput(CONV.key, 1, near.astype(np.float32))])), weight(GRAPH))
    large = weight(GRAPH).copy()
    large[2] *= 5
    after = apply(GRAPH, [SetInput(CONV.key, 1, large)])
    scales = after.grid(after.node(CONV.key).input(1))
    assert scales is not None
    assert np.flatnonzero(scales.scale != grid.scale).tolist() == [2]
    assert np.abs(weight(after) - large).max() <= 0.51 * scales.step(4).max()


def test_a_tensor_that_two_layers_share_keeps_its_value_for_the_other() -> None:
    first, other = [n for n in GRAPH.nodes if n.op == "Conv"][1:3]
    shared = apply(GRAPH, [Rewire(other.key, 1, first.input(1))])
    before = np.asarray(shared.constant(shared.node(other.key), 1))
    after = apply(shared, [SetInput(first.key, 1, before * 0.5)])
    assert np.array_equal(np.asarray(after.constant(after.node(other.key), 1)), before)
    step = np.asarray(after.grid(after.node(first.key).input(1)).step(4))  # type: ignore[union-attr]
    assert np.all(np.abs(np.asarray(after.constant(after.node(first.key), 1)) - before * 0.5) <= 0.51 * step)


def test_a_new_bias_is_stored_as_int32_on_the_product_of_scales() -> None:
    bias = GRAPH.constant(CONV, 2)
    assert bias is not None
    without = apply(GRAPH, [SetInput(CONV.key, 2, None)])
    assert without.constant(without.node(CONV.key), 2) is None
    again = apply(without, [SetInput(CONV.key, 2, bias)])
    tensor = again.node(CONV.key).input(2)
    assert again.initializers[again.producers[tensor].input(0)].dtype == np.int32
    assert np.allclose(answer(again), answer(GRAPH), atol=1e-6)


def test_the_cost_counts_codes_that_change() -> None:
    near = weight(GRAPH) * np.float32(1.0001)
    assert cost(GRAPH, [SetInput(CONV.key, 1, near)]) == pytest.approx(2.0)
