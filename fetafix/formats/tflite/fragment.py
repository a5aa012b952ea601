"""A piece of an ONNX graph as TFLite operators.

Values keep whatever layout they have natively; a TRANSPOSE is put in only where an operator insists on another. Shapes,
and everything that depends on shapes alone, come from a run of the piece on an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fetafix.formats.attempts import evaluated
from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import operators as tflite_operators
from fetafix.formats.tflite import pointwise as tflite_pointwise
from fetafix.formats.tflite import shapes as tflite_shapes
from fetafix.formats.tflite import windows as tflite_windows
from fetafix.formats.tflite.emitter import Emitter
from fetafix.formats.tflite.options import NONE
from fetafix.formats.tflite.program import Program
from fetafix.formats.tflite.tensors import Value
from fetafix.ir import Array, Graph, Node

Handler = Callable[["Translator", Node], Value]
_HANDLERS: Mapping[str, Handler] = {
    **tflite_pointwise.HANDLERS, **tflite_windows.HANDLERS, **tflite_operators.HANDLERS, **tflite_shapes.HANDLERS,
}  # fmt: skip
_PASSED_ON = {"Identity", "Dropout"}


def convert(program: Program, fragment: Graph, inputs: Sequence[Value], feeds: Mapping[str, Array]) -> Value:
    """Append operators that compute the fragment's one output. Raises Unsupported; the program is then in no order."""
    values = dict(zip((v.name for v in fragment.inputs), inputs, strict=True))
    return Translator(program, fragment, values, evaluated(fragment, feeds)).value(fragment.output_names[0])


class Translator(Emitter):
    """Makes native values of a fragment's tensors, each once."""

    def __init__(
        self, program: Program, fragment: Graph, values: dict[str, Value], samples: Mapping[str, Array]
    ) -> None:
        super().__init__(program, fragment, samples)
        self._values = values

    def quantised(self) -> bool:
        """Whether the piece computes in codes."""
        return any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in self.fragment.nodes) or any(
            self.program.quantisation(v.tensor) is not None for v in self._values.values()
        )

    def value(self, tensor: str) -> Value:
        """The native value of a tensor of the fragment."""
        if tensor not in self._values:
            self._values.setdefault(tensor, self._make(tensor))  # a Split makes several at once
        return self._values[tensor]

    def know(self, tensor: str, value: Value) -> None:
        """Another output of an operator that has been written."""
        self._values[tensor] = value

    def onnx_layout(self, tensor: str) -> Value:
        """A tensor in ONNX's own order of axes."""
        value = self.value(tensor)
        return self.shaped(value, range(len(value.perm)), tensor)

    def channels_last(self, tensor: str) -> Value:
        """A tensor with its channels (ONNX axis 1) last."""
        value = self.value(tensor)
        return self.shaped(value, last_perm(len(value.perm)), tensor)

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

    def _activation(self, node: Node) -> Value | None:
        """Relu and Clip as the fused activation of the operator before, where that one has such an option."""
        code = self.clip(node)
        inner = self.fragment.producers.get(node.input(0))
        if code in (None, NONE) or inner is None or node.input(0) in self._values:
            return None
        if self.alone(node.input(0)) is not node or not self._fusable(inner):
            return None
        self.hand_down(node, node.input(0))
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


def last_perm(rank: int) -> tuple[int, ...]:
    """The layout with channels last: N,C,… = native N,…,C transposed by this."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 1 else tuple(range(rank))
