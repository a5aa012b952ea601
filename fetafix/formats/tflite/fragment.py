"""A piece of an ONNX graph as TFLite operators.

Values keep whatever layout they have natively; a TRANSPOSE is put in only where an operator insists on another. Shapes,
and everything that depends on shapes alone, come from a run of the piece on an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.errors import FetafixError
from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import grids as tflite_grids
from fetafix.formats.tflite import operators as tflite_operators
from fetafix.formats.tflite import pointwise as tflite_pointwise
from fetafix.formats.tflite import shapes as tflite_shapes
from fetafix.formats.tflite import windows as tflite_windows
from fetafix.formats.tflite.options import NONE, RELU, fused
from fetafix.formats.tflite.program import Program, Quantised
from fetafix.formats.tflite.schema import dtype_of
from fetafix.formats.tflite.tensors import Value
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Graph, Node

Handler = Callable[["Translator", Node], Value]
_HANDLERS: Mapping[str, Handler] = {
    **tflite_pointwise.HANDLERS, **tflite_windows.HANDLERS, **tflite_operators.HANDLERS, **tflite_shapes.HANDLERS,
}  # fmt: skip
_PASSED_ON = {"Identity", "Dropout"}


def convert(program: Program, fragment: Graph, inputs: Sequence[Value], feeds: Mapping[str, Array]) -> Value:
    """Append operators that compute the fragment's one output. Raises Unsupported; the program is then in no order."""
    values = dict(zip((v.name for v in fragment.inputs), inputs, strict=True))
    return Translator(program, fragment, values, _evaluated(fragment, feeds)).value(fragment.output_names[0])


def _evaluated(fragment: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [o for n in fragment.nodes for o in n.outputs if o]
    missing = [v.name for v in fragment.inputs if v.name not in feeds]
    if missing:
        raise Unsupported(f"nothing is known about tensor {missing[0]}")
    try:
        made = Evaluator().run(fragment, feeds, names)
    except FetafixError as error:
        raise Unsupported(f"what is to be written does not run: {error}") from error
    return {**fragment.initializers, **feeds, **dict(zip(names, made, strict=True))}


class Translator:
    """Makes native values of a fragment's tensors, each once.

    program: what operators are added to. samples: every tensor's value on the example.
    """

    def __init__(
        self, program: Program, fragment: Graph, values: dict[str, Value], samples: Mapping[str, Array]
    ) -> None:
        self.program, self.fragment, self.samples = program, fragment, samples
        self._values = values
        self._wanted: dict[str, tuple[Quantised, np.dtype[Any]]] = {}
        self._fixed = _constants(fragment)

    # reading the fragment -------------------------------------------------------------------------------------------
    def constant(self, node: Node, slot: int) -> Array | None:
        """What a slot holds whatever the input is, or None where it is omitted or computed from the inputs."""
        name = node.input(slot)
        return self.samples[name] if name in self._fixed else None

    def parameter(self, node: Node, slot: int) -> Array | None:
        """A slot that tells sizes (shapes, pads, axes): its value on the example; None where it is omitted."""
        return self.samples[node.input(slot)] if node.input(slot) else None

    def shape(self, tensor: str) -> tuple[int, ...]:
        """A tensor's shape in ONNX's layout."""
        return self.samples[tensor].shape

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is the same whatever the inputs are."""
        return tensor in self._fixed

    def alone(self, tensor: str) -> Node | None:
        """The only node that reads a tensor, None where several do or it is put out."""
        users = self.fragment.consumers.get(tensor, ())
        return users[0][0] if len(users) == 1 and tensor not in self.fragment.output_names else None

    def quantised(self) -> bool:
        """Whether the piece computes in codes."""
        return any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in self.fragment.nodes) or any(
            self.program.quantisation(v.tensor) is not None for v in self._values.values()
        )

    # making values --------------------------------------------------------------------------------------------------
    def value(self, tensor: str) -> Value:
        """The native value of a tensor of the fragment."""
        if tensor not in self._values:
            self._values.setdefault(tensor, self._make(tensor))  # a Split makes several at once
        return self._values[tensor]

    def know(self, tensor: str, value: Value) -> None:
        """Another output of an operator that has been written."""
        self._values[tensor] = value

    def _make(self, tensor: str) -> Value:
        if tensor in self._fixed:
            return self._constant_value(tensor)
        node = self.fragment.producers[tensor]
        if node.op in _PASSED_ON:
            return self.value(node.input(0))
        if node.op == "DequantizeLinear":
            return self.value(node.input(0))
        if node.op == "QuantizeLinear":
            return self._quantise(node)
        inner = self._activation(node)
        if inner is not None:
            return inner
        handler = _HANDLERS.get(node.op)
        if handler is None or node.domain:
            raise Unsupported(f"{node.label}: there is no way to write {node.op} as TFLite operators")
        return handler(self, node)

    def _constant_value(self, tensor: str) -> Value:
        array = self.samples[tensor]
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        return Value(self.program.add_constant(array, tensor), tuple(range(array.ndim)))

    def _quantise(self, node: Node) -> Value:
        scale, zero = self.constant(node, 1), self.constant(node, 2)
        if scale is None or zero is None:
            raise Unsupported(f"{node.label} quantises with computed scales")
        if scale.size != 1:
            raise Unsupported(f"{node.label} quantises activations by channel, which TFLite does not")
        grid = (np.atleast_1d(scale).astype(np.float32), np.atleast_1d(zero).astype(np.int64), 0)
        self._wanted[node.input(0)] = (grid, zero.dtype)
        made = self.value(node.input(0))
        if self._on(made.tensor, grid, zero.dtype):
            return made
        if self.program.quantisation(made.tensor) is None:
            raise Unsupported(f"{node.label}: this piece cannot be computed in codes")
        return self.on_grid(made, grid, zero.dtype, node.outputs[0])

    def _on(self, tensor: int, grid: Quantised, dtype: np.dtype[Any]) -> bool:
        own = self.program.quantisation(tensor)
        return own is not None and np.array_equal(own[0], grid[0]) and np.array_equal(own[1], grid[1])

    def _activation(self, node: Node) -> Value | None:
        """Relu and Clip as the fused activation of the operator before, where that one has such an option."""
        code = self.clip(node)
        inner = self.fragment.producers.get(node.input(0))
        if code in (None, NONE) or inner is None or node.input(0) in self._values:
            return None
        if self.alone(node.input(0)) is not node or not self._fusable(inner):
            return None
        self._hand_down(node)
        made = self.value(node.input(0))
        operator = self.program.graph.operators[-1]
        options = operator.builtinOptions
        if made.tensor not in operator.outputs or getattr(options, "fusedActivationFunction", None) != NONE:
            return None
        options.fusedActivationFunction = self.program.fields[id(operator)]["fusedActivationFunction"] = code
        return made

    def _fusable(self, node: Node) -> bool:
        """Whether a node becomes an operator with a fused activation; a bias may stand in between."""
        return node.op in {"Conv", "MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "AveragePool", "MaxPool"}

    def _hand_down(self, node: Node) -> None:
        if node.outputs[0] in self._wanted:
            self._wanted[node.input(0)] = self._wanted[node.outputs[0]]

    def hand_down(self, outer: Node, inner: str) -> None:
        """What is computed for `inner` is put on the grid wanted of `outer`'s output."""
        if outer.outputs[0] in self._wanted:
            self._wanted[inner] = self._wanted[outer.outputs[0]]

    def clip(self, node: Node) -> int | None:
        """The fused activation that a node is, or None."""
        if node.op == "Relu" and not node.domain:
            return RELU
        if node.op != "Clip" or node.domain:
            return None
        low, high = self.bounds(node)
        return fused(low, high)

    def bounds(self, node: Node) -> tuple[float | None, float | None]:
        """The bounds of a Clip; None where there is none."""
        found = []
        for slot, name in ((1, "min"), (2, "max")):
            bound: Any = self.constant(node, slot) if node.input(slot) else node.attrs.get(name)
            if node.input(slot) and bound is None:
                raise Unsupported(f"{node.label} clips at a computed bound")
            found.append(None if bound is None else float(np.asarray(bound).reshape(())))
        return found[0], found[1]

    # emitting -------------------------------------------------------------------------------------------------------
    def emit(
        self, name: str, inputs: Sequence[int], tensor: str, perm: Sequence[int], options: Mapping[str, Any] = {},
        shape: Sequence[int] | None = None, grid: tuple[Quantised, np.dtype[Any]] | None = None,
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
        grid: tuple[Quantised, np.dtype[Any]] | None,
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

    def wanted(self, tensor: str) -> tuple[Quantised, np.dtype[Any]] | None:
        """The grid that a tensor is to be on, where that is known."""
        return self._wanted.get(tensor)

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

    def onnx_layout(self, tensor: str) -> Value:
        """A tensor in ONNX's own order of axes."""
        value = self.value(tensor)
        return self.shaped(value, range(len(value.perm)), tensor)

    def channels_last(self, tensor: str) -> Value:
        """A tensor with its channels (ONNX axis 1) last."""
        value = self.value(tensor)
        return self.shaped(value, last_perm(len(value.perm)), tensor)

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


def last_perm(rank: int) -> tuple[int, ...]:
    """The layout with channels last: N,C,… = native N,…,C transposed by this."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 1 else tuple(range(rank))


def _same_order(shape: Sequence[int], turn: Sequence[int]) -> bool:
    """Whether a transposition moves only axes of length 1."""
    moved = [i for i in turn if shape[i] != 1]
    return moved == sorted(moved)


def _constants(fragment: Graph) -> set[str]:
    """Tensors that do not depend on the values of the inputs: initializers, shapes, and what is made of those."""
    fixed = set(fragment.initializers)
    for node in fragment.nodes:
        if all(t in fixed for t in node.reads) or node.op in ("Shape", "Size"):
            fixed.update(o for o in node.outputs if o)
    return fixed
