"""Grids: codes and numbers as ONNX Runtime has them, saturation, larger scales where values would saturate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fetafix.ir import Graph, Node
from fetafix.quantisation import Grid, grid_for
from tests.faults.support import EVALUATOR

INT8 = np.dtype(np.int8)
PER_CHANNEL = Grid(np.array([0.1, 0.02, 3.0], np.float32), np.array([0, 5, -7], np.int8), 0, INT8)
NUMBERS = st.floats(-20, 20, width=32)


def onnx(op: str, value: np.ndarray, grid: Grid) -> np.ndarray:
    attrs = {} if grid.axis is None else {"axis": grid.axis}
    tensors = {"scale": grid.scale, "zero": grid.zero_point}
    graph = Graph((Node(op, ("x", "scale", "zero"), ("y",), attrs),), tensors, (), (), {"": 17})
    return EVALUATOR.run(graph, {"x": value}, ["y"])[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@given(arrays(np.float32, (4, 5), elements=NUMBERS), st.floats(2**-10, 2, width=32), st.integers(0, 127))
def test_codes_and_values_are_those_of_onnx(dtype: str, x: np.ndarray, scale: float, zero: int) -> None:
    grid = Grid(np.float32(scale).reshape(()), np.array(zero, dtype), None, np.dtype(dtype))
    codes = onnx("QuantizeLinear", x, grid)
    assert np.abs(grid.codes(x).astype(int) - codes).max() <= 1  # a tie may fall either way in float32
    assert np.array_equal(grid.values(codes), onnx("DequantizeLinear", codes, grid))


@given(arrays(np.float32, (3, 4), elements=NUMBERS))
def test_a_grid_per_channel_is_that_of_onnx(x: np.ndarray) -> None:
    codes = PER_CHANNEL.codes(x)
    assert np.abs(codes.astype(int) - onnx("QuantizeLinear", x, PER_CHANNEL)).max() <= 1
    assert np.array_equal(PER_CHANNEL.values(codes), onnx("DequantizeLinear", codes, PER_CHANNEL))


@given(arrays(np.float32, (3, 4), elements=NUMBERS))
def test_covering_leaves_nothing_off_by_more_than_half_a_step(x: np.ndarray) -> None:
    grid = PER_CHANNEL.covering(x)
    assert np.all(np.abs(grid.values(grid.codes(x)) - x) <= 0.502 * grid.step(2) + 1e-6)
    wide = np.any(np.abs(x) > 100 * PER_CHANNEL.step(2), axis=1)
    assert np.array_equal(grid.scale[~wide], PER_CHANNEL.scale[~wide])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 6.0), (-3.0, 0.5), (2.0, 5.0)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_a_grid_for_a_range_holds_it_and_zero_exactly(low: float, high: float, dtype: type) -> None:
    grid = grid_for(np.array(low), np.array(high), np.dtype(dtype), symmetric=False)
    x = np.array([low, high, 0.0], np.float32)
    assert np.all(np.abs(grid.values(grid.codes(x)) - x) <= grid.step(0) + 1e-6)
    assert grid.values(grid.codes(np.zeros(1)))[0] == 0


def test_equal_scales_in_another_order_are_the_same_steps() -> None:
    rolled = Grid(np.roll(PER_CHANNEL.scale, 1), PER_CHANNEL.zero_point, 0, INT8)
    assert PER_CHANNEL.same_steps(rolled)
    assert not PER_CHANNEL.same_steps(Grid(PER_CHANNEL.scale * 2, PER_CHANNEL.zero_point, 0, INT8))
