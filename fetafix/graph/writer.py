"""Small pieces of graph written down node by node, with names in the style of a neighbour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fetafix.edits import ReplaceSegment
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Array, Attribute, Graph, Node, Value


class Writer:
    """Collects nodes and constants that are to compute what node `near` makes, or something about it."""

    def __init__(self, graph: Graph, near: Node) -> None:
        self._graph, self._near = graph, near
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}

    def number(self, value: float) -> str:
        """A float32 scalar."""
        name = tensor_like(self._taken(), "number", self._near)
        self.constants[name] = np.array(value, np.float32)
        return name

    def op(self, op: str, *inputs: str, **attrs: Attribute) -> str:
        """Append a node; returns its output."""
        label, out = like(self._taken(), op, self._near)
        self.nodes.append(Node(op, inputs, (out,), attrs, label))
        return out

    def replacing(self, tensor: str, made: str) -> ReplaceSegment:
        """The edit that computes a tensor of the graph as `made` is computed here."""
        own = {o for n in self.nodes for o in n.outputs} | set(self.constants)
        free = {t: t for n in self.nodes for t in n.inputs if t not in own}
        output = (Value(made, np.dtype(np.float32)),)
        return ReplaceSegment(tensor, Graph(tuple(self.nodes), self.constants, (), output, self._graph.opset), free)

    def _taken(self) -> Graph:
        tensors = {**self._graph.initializers, **self.constants}
        return replace(self._graph, nodes=(*self._graph.nodes, *self.nodes), initializers=tensors, outputs=())
