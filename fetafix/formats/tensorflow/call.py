"""One ONNX operator that is to be said in TensorFlow: what it reads, and the layout that TensorFlow wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.ir import Array, Node


@dataclass(frozen=True, eq=False)
class Call:
    """One operator to emit. tf: the module. inputs: TensorFlow tensors, None where omitted. constant: by slot."""

    tf: Any
    node: Node
    inputs: Sequence[Any]
    constant: Callable[[int], Array | None]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute of the ONNX node."""
        return self.node.attrs.get(name, default)

    def input(self, slot: int) -> Any:
        """An input, or None."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def fixed(self, slot: int, name: str = "") -> list[int]:
        """An integer input that must be a constant (or the attribute it was in older operator sets)."""
        value = self.constant(slot)
        if value is None and name and self.attr(name) is not None:
            value = np.atleast_1d(np.asarray(self.attr(name)))
        if value is None:
            raise Unsupported(f"{self.node.label}: input {slot} of {self.node.op} is computed while it runs")
        return [int(v) for v in np.ravel(value)]

    def rank(self, slot: int = 0) -> int:
        """Number of axes of an input."""
        rank = self.inputs[slot].shape.rank
        if rank is None:
            raise Unsupported(f"{self.node.label}: the rank of its input is not known")
        return int(rank)


def last(call: Call, x: Any) -> Any:
    """Channels last."""
    rank = x.shape.rank
    return call.tf.transpose(x, [0, *range(2, rank), 1])


def first(call: Call, x: Any) -> Any:
    """Channels first."""
    rank = x.shape.rank
    return call.tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


Handler = Callable[[Call], Any]
