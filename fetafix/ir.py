"""The canonical graph: frozen records over numpy, in ONNX's vocabulary.

ONNX is the common tongue for looking inside a model; these records are what the middle of fetafix reasons about. They
name no file and no framework. A `Graph` is never changed: `fetafix.edits.apply` returns a new one that shares every
node and tensor that was not edited, so "what changed" is a comparison of object identities.

A node is identified by its `key`, the name of its first output: ONNX demands that to be unique, whereas node names may
be empty or repeated. Domain "" is the default ONNX domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fetafix.quantisation import Grid

Array = NDArray[Any]
Dim = int | str | None


@dataclass(frozen=True, eq=False, slots=True)
class Body:
    """A sub-graph attribute (If, Loop, Scan): opaque bytes of a GraphProto and the outer tensors it reads."""

    proto: bytes
    captures: tuple[str, ...] = ()


Attribute = int | float | str | bytes | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array | Body


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One operator call. `inputs` keeps "" for omitted optional inputs."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    name: str = ""
    domain: str = ""

    @property
    def key(self) -> str:
        """The node's identity: its first named output."""
        return next((o for o in self.outputs if o), "")

    @property
    def label(self) -> str:
        """What a person reads: the node's name, or its first output where it has none."""
        return self.name or self.key

    @property
    def reads(self) -> tuple[str, ...]:
        """All tensors read, those captured by sub-graph bodies included; no empty names, in order, once each."""
        captured = (c for a in self.attrs.values() if isinstance(a, Body) for c in a.captures)
        return tuple(dict.fromkeys(t for t in (*self.inputs, *captured) if t))

    def input(self, slot: int) -> str:
        """The tensor in an input slot, or "" where it is omitted."""
        return self.inputs[slot] if slot < len(self.inputs) else ""

    def with_input(self, slot: int, tensor: str) -> Node:
        """A copy that reads `tensor` in `slot`; slots in between are left omitted."""
        inputs = [*self.inputs, *[""] * (slot + 1 - len(self.inputs))]
        inputs[slot] = tensor
        return replace(self, inputs=tuple(inputs))


@dataclass(frozen=True, slots=True)
class Value:
    """A graph input or output: name, numpy dtype and shape (int, symbolic name or None a dimension)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order, constant tensors, and the interface.

    `opset` maps a domain to its version. `shapes` holds shapes known from inference or from a run; it may lack tensors.
    """

    nodes: tuple[Node, ...]
    initializers: Mapping[str, Array]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opset: Mapping[str, int]
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Tensor name → the node that makes it."""
        return {o: n for n in self.nodes for o in n.outputs if o}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[tuple[Node, int], ...]]:
        """Tensor name → (node, input slot) pairs that read it; slot −1 stands for a capture by a sub-graph body."""
        table: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for slot, tensor in enumerate(node.inputs):
                if tensor:
                    table.setdefault(tensor, []).append((node, slot))
            for tensor in node.reads:
                if tensor not in node.inputs:
                    table.setdefault(tensor, []).append((node, -1))
        return {k: tuple(v) for k, v in table.items()}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph inputs, in order."""
        return tuple(v.name for v in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph outputs, in order."""
        return tuple(v.name for v in self.outputs)

    def node(self, key: str) -> Node:
        """The node with this key; KeyError where there is none."""
        return self.producers[key]

    def constant(self, node: Node, slot: int) -> Array | None:
        """The constant tensor in an input slot, or None where it is omitted or computed; see `value_of`."""
        return self.value_of(node.input(slot))

    def value_of(self, tensor: str) -> Array | None:
        """A tensor's value where it is constant: an initializer, or what a DequantizeLinear makes of initializers."""
        found = self.initializers.get(tensor)
        if found is not None or tensor not in self._dequantised:
            return found
        if tensor not in self._known:
            self._known[tensor] = self._dequantised[tensor].values(self.initializers[self.producers[tensor].input(0)])
        return self._known[tensor]

    def fixed(self, tensor: str) -> bool:
        """Whether a tensor is constant, as it is or quantised."""
        return tensor in self.initializers or tensor in self._dequantised

    def grid(self, tensor: str) -> Grid | None:
        """The grid that a constant tensor is stored on; None where it is stored as it is, or is computed."""
        return self._dequantised.get(tensor)

    @cached_property
    def _known(self) -> dict[str, Array]:
        return {}

    @cached_property
    def _dequantised(self) -> Mapping[str, Grid]:
        """What DequantizeLinear nodes make of initializers: tensor → grid."""
        found = {}
        for node in self.nodes:
            if node.op == "DequantizeLinear" and node.input(0) in self.initializers:
                grid = self.grid_of(node)
                if grid is not None and grid.fits(self.initializers[node.input(0)].shape):
                    found[node.outputs[0]] = grid
        return found

    def grid_of(self, node: Node) -> Grid | None:
        """The grid of a QuantizeLinear or DequantizeLinear; None where it is computed, blocked or no integer's."""
        scale, zero = self.initializers.get(node.input(1)), self.initializers.get(node.input(2))
        if scale is None or (zero is None and node.input(2)) or node.attrs.get("block_size"):
            return None
        if zero is None:
            codes = self.initializers.get(node.input(0)) if node.op == "DequantizeLinear" else None
            zero = np.zeros(scale.shape, np.uint8 if codes is None else codes.dtype)
        if zero.dtype.kind not in "iu" or scale.size != zero.size:
            return None
        axis = node.attrs.get("axis", 1)
        one = scale.size == 1 and scale.ndim == 0
        return Grid(scale, zero, None if one or not isinstance(axis, int) else axis, zero.dtype)

    def between(self, starts: Iterable[str], ends: Sequence[str]) -> Graph:
        """The sub-graph that computes `ends` from `starts`, which become its inputs.

        Tensors in `starts` are cut even where they are also in `ends`' history. Initializers that are needed come
        along.
        """
        stop = set(starts)
        kept: set[int] = set()
        stack = [self.producers[e] for e in ends if e in self.producers]
        while stack:
            node = stack.pop()
            if id(node) not in kept:
                kept.add(id(node))
                stack.extend(self.producers[t] for t in node.reads if t not in stop and t in self.producers)
        nodes = tuple(n for n in self.nodes if id(n) in kept)
        made = {o for n in nodes for o in n.outputs}
        free = [t for t in dict.fromkeys(t for n in nodes for t in n.reads) if t not in made]
        initializers = {t: self.initializers[t] for t in free if t in self.initializers}
        known = {v.name: v for v in (*self.inputs, *self.outputs)}
        inputs = tuple(self._value(t, known) for t in free if t not in initializers)
        outputs = tuple(self._value(t, known) for t in ends)
        return Graph(nodes, initializers, inputs, outputs, self.opset, self.shapes)

    def _value(self, tensor: str, known: Mapping[str, Value]) -> Value:
        return known.get(tensor) or Value(tensor, np.dtype(np.float32), self.shapes.get(tensor))
