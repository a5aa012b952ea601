"""Edits of the structure: what reads what, which operators there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from fetafix.edits.surgery import called, exchanged, find, fresh, prune, renamed, topological
from fetafix.errors import EditError
from fetafix.ir import Array, Attribute, Body, Graph, Node

_STRUCTURAL = 20.0


@dataclass(frozen=True, eq=False, slots=True)
class Rewire:
    """Let an input slot read another tensor of the graph."""

    node: str
    slot: int
    tensor: str
    kind: ClassVar[str] = "rewire"

    def describe(self) -> str:
        """One line for people."""
        return f"{self.node}: input {self.slot} reads {self.tensor}"

    def cost(self, graph: Graph) -> float:
        """One connection."""
        return 2.0

    def apply(self, graph: Graph) -> Graph:
        """The graph with the connection changed, nodes sorted again."""
        node = find(graph, self.node)
        if self.tensor not in {*graph.producers, *graph.initializers, *graph.input_names}:
            raise EditError(f"{self.node}: cannot read {self.tensor!r}, the graph has no such tensor")
        changed = exchanged(graph, {node.key: node.with_input(self.slot, self.tensor)})
        return replace(changed, nodes=topological(changed.nodes))


@dataclass(frozen=True, eq=False, slots=True)
class SetOperator:
    """Turn a node into another operator with the same outputs; its inputs stay unless given."""

    node: str
    op: str
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    inputs: tuple[str, ...] | None = None
    domain: str = ""
    constants: Mapping[str, Array] = field(default_factory=dict)
    kind: ClassVar[str] = "set_operator"

    def describe(self) -> str:
        """One line for people."""
        return f"{self.node}: becomes {self.op}"

    def cost(self, graph: Graph) -> float:
        """One operator."""
        return 4.0

    def apply(self, graph: Graph) -> Graph:
        """The graph with the operator exchanged."""
        node = find(graph, self.node)
        inputs = node.inputs if self.inputs is None else self.inputs
        new = replace(node, op=self.op, attrs=dict(self.attrs), inputs=inputs, domain=self.domain)
        changed = exchanged(graph, {node.key: new}, initializers={**graph.initializers, **self.constants})
        return replace(changed, nodes=topological(changed.nodes))


@dataclass(frozen=True, eq=False, slots=True)
class InsertNode:
    """Insert `node` behind tensor `after`: the consumers (all, or those listed as (key, slot)) read its output.

    `node.inputs` names `after` where the tensor goes in; `constants` are further inputs. With consumers None the
    graph's own outputs that are `after` are served too, and keep their name.
    """

    after: str
    node: Node
    constants: Mapping[str, Array] = field(default_factory=dict)
    consumers: tuple[tuple[str, int], ...] | None = None
    kind: ClassVar[str] = "insert_node"

    def describe(self) -> str:
        """One line for people."""
        return f"insert {self.node.op} after {self.after}"

    def cost(self, graph: Graph) -> float:
        """One operator and its constants."""
        return 5.0 + sum(float(np.log2(1 + c.size)) for c in self.constants.values())

    def apply(self, graph: Graph) -> Graph:
        """The graph with the node inserted. Names that are taken are replaced by fresh ones."""
        names = {n: fresh(graph, n) for n in (*self.constants, *self.node.outputs)}
        node = replace(
            self.node,
            inputs=tuple(names.get(i, i) for i in self.node.inputs),
            outputs=tuple(names[o] for o in self.node.outputs),
        )
        served = self._served(graph)
        changed: dict[str, Node] = {}
        for key, slot in served:
            consumer = changed.get(key) or find(graph, key)
            changed[key] = consumer.with_input(slot, node.outputs[0])
        for reader, slot in graph.consumers.get(self.after, ()) if self.consumers is None else ():
            if slot < 0:  # a body reads it
                changed[reader.key] = called(changed.get(reader.key, reader), {self.after: node.outputs[0]})
        tensors = {**graph.initializers, **{names[n]: c for n, c in self.constants.items()}}
        result = exchanged(graph, changed, initializers=tensors)
        result = replace(result, nodes=topological((*result.nodes, node)))
        if self.consumers is None and self.after in graph.output_names:
            return renamed(result, {self.after: fresh(result, f"{self.after}_pre"), node.outputs[0]: self.after})
        return result

    def _served(self, graph: Graph) -> tuple[tuple[str, int], ...]:
        if self.consumers is not None:
            return self.consumers
        return tuple((n.key, slot) for n, slot in graph.consumers.get(self.after, ()) if slot >= 0)


@dataclass(frozen=True, eq=False, slots=True)
class RemoveNode:
    """Take a node out; its consumers read what it read in `slot`."""

    node: str
    slot: int = 0
    kind: ClassVar[str] = "remove_node"

    def describe(self) -> str:
        """One line for people."""
        return f"remove {self.node}"

    def cost(self, graph: Graph) -> float:
        """One operator."""
        return 4.0

    def apply(self, graph: Graph) -> Graph:
        """The graph without the node; a graph output it made keeps its name."""
        node = find(graph, self.node)
        feed, out = node.input(self.slot), node.outputs[0]
        if not feed:
            raise EditError(f"cannot remove {self.node}: its input {self.slot} is empty")
        rest = replace(graph, nodes=tuple(n for n in graph.nodes if n is not node))
        if out not in graph.output_names:
            return renamed(rest, {out: feed})
        if feed in graph.producers and feed not in graph.output_names:
            return renamed(rest, {feed: out})
        identity = replace(node, op="Identity", inputs=(feed,), outputs=(out,), attrs={}, domain="")
        return exchanged(graph, {node.key: identity})


@dataclass(frozen=True, eq=False, slots=True)
class ReplaceSegment:
    """Compute tensor `output` by a fragment instead.

    The fragment's inputs are tensors of the graph (or of `bind`: fragment input → tensor of the graph); its single
    output takes over `output`. Nodes that nothing reads any more are dropped.
    """

    output: str
    fragment: Graph
    bind: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "replace_segment"

    def describe(self) -> str:
        """One line for people."""
        ops = ", ".join(n.op for n in self.fragment.nodes[:6]) + (", …" if len(self.fragment.nodes) > 6 else "")
        return f"replace what computes {self.output} by the source's segment ({ops})"

    def cost(self, graph: Graph) -> float:
        """Every operator and tensor of the fragment."""
        tensors = sum(float(np.log2(1 + t.size)) for t in self.fragment.initializers.values())
        return _STRUCTURAL + 5.0 * len(self.fragment.nodes) + tensors

    def apply(self, graph: Graph) -> Graph:
        """The graph with the fragment in place."""
        made = [o for n in self.fragment.nodes for o in n.outputs if o]
        names = dict(self.bind)
        for name in (*self.fragment.initializers, *made):
            names[name] = fresh(graph, name)
        names[self.fragment.output_names[0]] = self.output
        taken = {*graph.producers, *graph.initializers, *graph.input_names, *names.values()}
        nodes = [called(n, names, taken if any(isinstance(a, Body) for a in n.attrs.values()) else ())
                 for n in self.fragment.nodes]
        old = graph.producers.get(self.output)
        if old is None:
            raise EditError(f"the graph computes no tensor {self.output!r}")
        spare = fresh(graph, f"{self.output}_old")
        kept = [
            n if n is not old else replace(n, outputs=tuple(spare if o == self.output else o for o in n.outputs))
            for n in graph.nodes
        ]
        tensors = {**graph.initializers, **{names[k]: v for k, v in self.fragment.initializers.items()}}
        opset = {**self.fragment.opset, **graph.opset}
        return prune(replace(graph, nodes=topological((*kept, *nodes)), initializers=tensors, opset=opset))
