"""What there is to know about a piece of an ONNX graph before it is written: constants, shapes, who reads what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite.options import RELU, fused
from fetafix.ir import Array, Graph, Node


class Known:
    """A fragment and every tensor's value on an example.

    Attributes:
        fragment: the piece of an ONNX graph.
        samples: tensor → its value on the example.
    """

    def __init__(self, fragment: Graph, samples: Mapping[str, Array]) -> None:
        self.fragment, self.samples = fragment, samples
        self._fixed = _constants(fragment)

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


def _constants(fragment: Graph) -> set[str]:
    """Tensors that do not depend on the values of the inputs: initializers, shapes, and what is made of those."""
    fixed = set(fragment.initializers)
    for node in fragment.nodes:
        if all(t in fixed for t in node.reads) or node.op in ("Shape", "Size"):
            fixed.update(o for o in node.outputs if o)
    return fixed
