"""Edits that set values: attributes, constant inputs, the interface, the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fetafix.edits import codes
from fetafix.edits.surgery import exchanged, find, fresh, prune
from fetafix.errors import EditError
from fetafix.ir import Array, Attribute, Dim, Graph, Value


@dataclass(frozen=True, eq=False, slots=True)
class SetAttribute:
    """Give a node's attribute a value; None removes it, so that the operator's default holds."""

    node: str
    attribute: str
    value: Attribute | None
    kind: ClassVar[str] = "set_attribute"

    def describe(self) -> str:
        """One line for people."""
        return f"{self.node}: set {self.attribute} = {self.value!r}"

    def cost(self, graph: Graph) -> float:
        """A single hyper-parameter."""
        return 1.0

    def apply(self, graph: Graph) -> Graph:
        """The graph with the attribute set."""
        node = find(graph, self.node)
        attrs = {k: v for k, v in node.attrs.items() if k != self.attribute}
        if self.value is not None:
            attrs[self.attribute] = self.value
        outputs = node.outputs
        if node.op == "BatchNormalization" and self.attribute == "training_mode":
            # ONNX wants the running statistics as outputs in training mode and only there (opset 14)
            statistics = (fresh(graph, f"{node.key}_mean"), fresh(graph, f"{node.key}_var"))
            outputs = (*outputs[:1], *statistics) if self.value else outputs[:1]
        return exchanged(graph, {node.key: replace(node, attrs=attrs, outputs=outputs)})


@dataclass(frozen=True, eq=False, slots=True)
class SetInput:
    """Put a constant into a node's input slot (a weight, a bias, a Clip bound); None empties the slot.

    A tensor that other nodes share keeps its value for them. Where the slot reads quantised codes, the value is put on
    their grid.
    """

    node: str
    slot: int
    value: Array | None
    kind: ClassVar[str] = "set_input"

    def describe(self) -> str:
        """One line for people."""
        if self.value is None:
            return f"{self.node}: drop input {self.slot}"
        return f"{self.node}: set input {self.slot} ({self.value.dtype}{list(self.value.shape)})"

    def cost(self, graph: Graph) -> float:
        """2 and a logarithmic share for the elements that change."""
        node = find(graph, self.node)
        old = graph.constant(node, self.slot)
        if self.value is None:
            return 2.0
        if node.op in ("QuantizeLinear", "DequantizeLinear") and self.slot:
            return 2.0 + 0.5 * float(np.log2(self.value.size))  # how numbers are stored, not the numbers
        if old is None or old.shape != self.value.shape:
            return 3.0 + float(np.log2(1 + self.value.size))
        return 2.0 + float(np.log2(1 + codes.changed(graph, node.input(self.slot), self.value)))

    def apply(self, graph: Graph) -> Graph:
        """The graph with the constant in place, under its old name where nobody else reads that."""
        node = find(graph, self.node)
        if self.value is None:
            return codes.without(exchanged(graph, {node.key: node.with_input(self.slot, "")}), node.input(self.slot))
        quantised = codes.stored(graph, node, self.slot, self.value)
        if quantised is not None:
            return quantised
        old = node.input(self.slot)
        own = old in graph.initializers and len(graph.consumers.get(old, ())) == 1 and old not in graph.output_names
        name = old if own else fresh(graph, old or f"{self.node}_in{self.slot}")
        tensors = {**graph.initializers, name: self.value}
        return exchanged(graph, {node.key: node.with_input(self.slot, name)}, initializers=tensors)


@dataclass(frozen=True, eq=False, slots=True)
class SetOutputs:
    """The graph's outputs become these tensors, in this order (drop, reorder)."""

    outputs: tuple[str, ...]
    kind: ClassVar[str] = "set_outputs"

    def describe(self) -> str:
        """One line for people."""
        return f"outputs become {', '.join(self.outputs)}"

    def cost(self, graph: Graph) -> float:
        """One per output that is no longer where it was."""
        return 1.0 + sum(a != b for a, b in zip(self.outputs, graph.output_names, strict=False))

    def apply(self, graph: Graph) -> Graph:
        """The graph with these outputs, without the nodes that only served others."""
        known = {v.name: v for v in graph.outputs}
        missing = [o for o in self.outputs if o not in known and o not in graph.producers]
        if missing:
            raise EditError(f"the graph has no tensor {missing[0]!r} to put out")
        values = tuple(known.get(o) or Value(o, np.dtype(np.float32), graph.shapes.get(o)) for o in self.outputs)
        return prune(replace(graph, outputs=values))


@dataclass(frozen=True, eq=False, slots=True)
class SetInputShape:
    """Declare another shape for a graph input."""

    input: str
    shape: tuple[Dim, ...]
    kind: ClassVar[str] = "set_input_shape"

    def describe(self) -> str:
        """One line for people."""
        return f"declare input {self.input} as {list(self.shape)}"

    def cost(self, graph: Graph) -> float:
        """One declaration."""
        return 1.0

    def apply(self, graph: Graph) -> Graph:
        """The graph with the shape declared."""
        if self.input not in graph.input_names:
            raise EditError(f"the graph has no input {self.input!r}")
        inputs = tuple(replace(v, shape=self.shape) if v.name == self.input else v for v in graph.inputs)
        return replace(graph, inputs=inputs)


@dataclass(frozen=True, eq=False, slots=True)
class SetPreprocessing:
    """Change fields of the target's preprocessing (configuration; the artifact stays as it is)."""

    changes: Mapping[str, Any]
    input: str = ""
    kind: ClassVar[str] = "set_preprocessing"

    def describe(self) -> str:
        """One line for people."""
        return "preprocess the target's input with " + ", ".join(f"{k}={v}" for k, v in self.changes.items())

    def cost(self, graph: Graph) -> float:
        """Less than any change of the artifact."""
        return 0.5 * len(self.changes)

    def apply(self, graph: Graph) -> Graph:
        """The same graph."""
        return graph
