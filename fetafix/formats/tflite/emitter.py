"""Operators appended to a TFLite program, each output in the layout and on the grid of codes that is wanted of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.tflite import grids as tflite_grids
from fetafix.formats.tflite.known import Known
from fetafix.formats.tflite.program import Program, Quantised
from fetafix.formats.tflite.schema import dtype_of
from fetafix.formats.tflite.tensors import Value
from fetafix.ir import Array, Graph, Node

Grid = tuple[Quantised, np.dtype[Any]]


class Emitter(Known):
    """Appends operators for a fragment's tensors. program: what they are added to."""

    def __init__(self, program: Program, fragment: Graph, samples: Mapping[str, Array]) -> None:
        super().__init__(fragment, samples)
        self.program = program
        self._wanted: dict[str, Grid] = {}

    def emit(
        self, name: str, inputs: Sequence[int], tensor: str, perm: Sequence[int], options: Mapping[str, Any] = {},
        shape: Sequence[int] | None = None, grid: Grid | None = None,
    ) -> Value:  # fmt: skip
        """An operator whose output is the ONNX tensor `tensor` in layout `perm` (or something of a native `shape`)."""
        perm = tuple(perm)
        if shape is None:
            shape = [0] * len(perm)
            for i, p in enumerate(perm):
                shape[p] = self.samples[tensor].shape[i]
        made = self._output(name, inputs, tensor, shape, grid)
        self.program.add_operator(name, inputs, [made], options)
        return Value(made, perm)

    def _output(
        self, name: str, inputs: Sequence[int], tensor: str, shape: Sequence[int],
        grid: Grid | None,
    ) -> int:  # fmt: skip
        data = inputs[2] if name == "TRANSPOSE_CONV" else inputs[0]
        source, code = self.program.quantisation(data), dtype_of(self.program.tensors[data])
        dtype = self.samples[tensor].dtype if tensor in self.samples else np.dtype(np.float32)
        dtype = np.dtype(np.int32) if dtype == np.int64 else dtype
        if source is None or code is None or dtype.kind not in "fiu":
            return self.program.add_activation(shape, dtype, tensor, None)
        if name in tflite_grids.KEEPING:
            return self.program.add_activation(shape, code, tensor, source)
        fixed = tflite_grids.fixed(name, code)
        wanted = grid or self._wanted.get(tensor)
        if fixed is None and wanted is None:
            wanted = tflite_grids.covering(self.samples[tensor], code), code
        if fixed is not None or wanted is None:
            return self.program.add_activation(shape, code, tensor, fixed or source)
        return self.program.add_activation(shape, wanted[1], tensor, wanted[0])

    def on_grid(self, value: Value, grid: Quantised, dtype: np.dtype[Any], tensor: str) -> Value:
        """A value of codes on a certain grid, by a QUANTIZE where it is on another."""
        if self._on(value.tensor, grid, dtype):
            return value
        return self.emit("QUANTIZE", [value.tensor], tensor, value.perm, grid=(grid, dtype))

    def _on(self, tensor: int, grid: Quantised, dtype: np.dtype[Any]) -> bool:
        own = self.program.quantisation(tensor)
        return own is not None and np.array_equal(own[0], grid[0]) and np.array_equal(own[1], grid[1])

    def wanted(self, tensor: str) -> Grid | None:
        """The grid that a tensor is to be on, where that is known."""
        return self._wanted.get(tensor)

    def hand_down(self, outer: Node, inner: str) -> None:
        """What is computed for `inner` is put on the grid wanted of `outer`'s output."""
        if outer.outputs[0] in self._wanted:
            self._wanted[inner] = self._wanted[outer.outputs[0]]

    def shaped(self, value: Value, perm: Sequence[int], tensor: str) -> Value:
        """A value in another layout: onnx = native.transpose(perm)."""
        perm = tuple(perm)
        if perm == value.perm:
            return value
        turn = tuple(value.perm[i] for i in np.argsort(perm))
        old = self.program.shape(value.tensor)
        shape = [old[i] for i in turn]
        if [n for n in old if n != 1] == [n for n in shape if n != 1] and _same_order(old, turn):
            return self._reshaped(value, shape, perm, tensor)
        axes = self.program.add_constant(np.array(turn, np.int32), f"{tensor}_perm")
        return self.emit("TRANSPOSE", [value.tensor, axes], tensor, perm, shape=shape)

    def _reshaped(self, value: Value, shape: Sequence[int], perm: tuple[int, ...], tensor: str) -> Value:
        sizes = self.program.add_constant(self.open_batch(np.array(shape, np.int32)), f"{tensor}_shape")
        return self.emit("RESHAPE", [value.tensor, sizes], tensor, perm, {"newShape": None}, shape=shape)

    def open_batch(self, shape: Array) -> Array:
        """A shape to reshape to that fits any batch, where the model takes any."""
        if self.program.dynamic and shape.size and shape[0] == 1 and not (shape == -1).any():
            shape = shape.copy()
            shape[0] = -1
        return shape

    def weight(self, tensor: str, turn: Callable[[Array], Array], axis: int = 0) -> int:
        """A constant, turned into native order: plain, or codes with their grid where the fragment dequantises some.

        axis: where the channels of the grid lie natively.
        """
        node = self.fragment.producers.get(tensor)
        if node is None or node.op != "DequantizeLinear":
            return self.program.add_constant(np.ascontiguousarray(turn(self.samples[tensor])), tensor)
        codes, scale, zero = (self.samples.get(node.input(i)) for i in range(3))
        assert codes is not None and scale is not None
        zeros = np.zeros(scale.size, np.int64) if zero is None else np.atleast_1d(zero).astype(np.int64)
        grid = (np.atleast_1d(scale).astype(np.float32), zeros, axis)
        native = np.ascontiguousarray(turn(codes))
        own: Any = node.attrs.get("axis", 1)
        if scale.size > 1 and tflite_grids.native_axis(turn, codes.shape, int(own) % codes.ndim) != axis:
            values = np.ascontiguousarray(turn(self.samples[tensor]))  # TFLite has scales along a layer's outputs only
            native, grid = tflite_grids.by_channel(values, axis, codes.dtype)
        return self.program.add_constant(native, tensor, grid)


def _same_order(shape: Sequence[int], turn: Sequence[int]) -> bool:
    """Whether a transposition moves only axes of length 1."""
    moved = [i for i in turn if shape[i] != 1]
    return moved == sorted(moved)
