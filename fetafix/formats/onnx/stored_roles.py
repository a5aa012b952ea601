"""Which initializers of an ONNX graph are weights: what products, convolutions and recurrent layers multiply by.

A weight need not be read directly: quantised files dequantise it first, hardened ones divide and compare it. So from
each weight slot the walk goes back through operators that pass values on, and keeps track of the output channels' axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_LAST = -1
# operator → the slots of its weights, and the axis of the output channels there (None: of no use as channels)
_WEIGHTS: dict[str, dict[int, int | None]] = {
    "Conv": {1: 0}, "FusedConv": {1: 0}, "NhwcConv": {1: 0}, "ConvInteger": {1: 0}, "QLinearConv": {3: 0},
    "DeformConv": {1: 0}, "ConvTranspose": {1: 1}, "MatMul": {0: 0, 1: _LAST}, "FusedMatMul": {0: 0, 1: _LAST},
    "MatMulInteger": {0: 0, 1: _LAST}, "QLinearMatMul": {0: 0, 3: _LAST}, "MatMulNBits": {1: 0},
    "DynamicQuantizeMatMul": {1: _LAST}, "MatMulIntegerToFloat": {1: _LAST}, "Einsum": {0: None, 1: None},
    "LSTM": {1: 1, 2: 1}, "GRU": {1: 1, 2: 1}, "RNN": {1: 1, 2: 1}, "Gather": {0: 0}, "Attention": {1: _LAST},
    "QAttention": {1: _LAST}, "EmbedLayerNormalization": {2: 0, 3: 0, 4: 0},
}  # fmt: skip
# operators that pass a value on → the slots that it comes in by
_PASS = {"DequantizeLinear": (0,), "QuantizeLinear": (0,), "Cast": (0,), "Identity": (0,), "Abs": (0,), "Clip": (0,),
         "Mul": (0, 1), "Div": (0,), "Where": (1, 2), "Transpose": (0,), "Reshape": (0,), "Squeeze": (0,),
         "Unsqueeze": (0,), "Flatten": (0,), "BitwiseAnd": (0, 1), "BitShift": (0,), "BitCast": (0,), "Pad": (0,),
         "Slice": (0,), "Concat": tuple(range(64))}  # fmt: skip
_MUCH_SMALLER = 16
_SHAPED = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}


@dataclass(frozen=True, slots=True)
class Call:
    """A node: operator, tensors, and its attributes that are whole numbers."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Use:
    """That a tensor is a weight. axis: of the output channels, None where that is not known."""

    axis: int | None


class Uses:
    """The weights among constant tensors. sizes: how many values each constant tensor has; calls in the order they run.

    Of what a slot is made of (values, factors, bounds), the weights are what is about as large as the largest.
    """

    def __init__(self, calls: Sequence[Call], sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._makers = {o: c for c in calls for o in c.outputs if o}
        self._fixed = set(sizes)
        for call in calls:
            if call.inputs and all(i in self._fixed for i in call.inputs if i):
                self._fixed.update(o for o in call.outputs if o)
        self._found: dict[str, int | None] = {}
        for call in calls:
            for slot, axis in _slots(call).items():
                if slot < len(call.inputs) and call.inputs[slot] in self._fixed:
                    self._note(call.inputs[slot], axis)

    def of(self, tensor: str, rank: int) -> Use | None:
        """How a constant tensor of this rank is used as a weight; None where it is not."""
        if tensor not in self._found:
            return None
        axis = self._found[tensor]
        return Use(axis + rank if axis is not None and axis < 0 else axis)

    def _note(self, tensor: str, axis: int | None) -> None:
        made_of = self._back(tensor, axis)
        largest = max((self._sizes[name] for name in made_of), default=0)
        for name, found in made_of.items():
            if self._sizes[name] * _MUCH_SMALLER > largest:
                self._found.setdefault(name, found)

    def _back(self, tensor: str, axis: int | None) -> dict[str, int | None]:
        """The constants that a tensor is made of, with their channels' axis."""
        pending, seen, found = [(tensor, axis)], set(), {}
        while pending:
            name, axis = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._sizes:
                found[name] = axis
            call = self._makers.get(name)
            for slot in _PASS.get(call.op, ()) if call is not None else ():
                if call is not None and slot < len(call.inputs) and call.inputs[slot]:
                    pending.append((call.inputs[slot], _through(call, axis)))
        return found


def _slots(call: Call) -> dict[int, int | None]:
    """The slots of an operator's weights, with the axis of the output channels."""
    if call.op in ("Gemm", "QGemm", "FusedGemm"):
        a = 1 if call.attrs.get("transA", (0,))[:1] == (1,) else 0
        b = 0 if call.attrs.get("transB", (0,))[:1] == (1,) else 1
        return {0: a, (3 if call.op == "QGemm" else 1): b}
    return _WEIGHTS.get(call.op, {})


def _through(call: Call, axis: int | None) -> int | None:
    """The channels' axis in front of an operator."""
    if axis is None or call.op in _SHAPED:
        return None
    if call.op == "Transpose":
        perm = call.attrs.get("perm")
        return perm[axis] if perm and -len(perm) <= axis < len(perm) else (-1 - axis if not perm else None)
    return axis
