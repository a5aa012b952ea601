"""Edits as data: what a repair or an injection changes, in terms of the lifted ONNX graph.

One list of edits serves the dry run, the trial on a segment, the journal, the report, the review, write-back, undo and
replay. An edit names nodes by key (first output) and tensors by name, says in one line what it does (`describe`), how
much it changes (`cost`, the smallest wins), and applies itself to a `Graph` without changing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from fetafix.errors import EditError
from fetafix.ir import Array, Attribute, Dim, Graph, Node, Value

_STRUCTURAL = 20.0


def _node(graph: Graph, key: str) -> Node:
    node = graph.producers.get(key)
    if node is None or node.key != key:
        raise EditError(f"edit names node {key!r}, but the graph has no node with that first output")
    return node


def _swap(graph: Graph, changed: Mapping[str, Node], **more: Any) -> Graph:
    """A graph in which the nodes of the given keys are replaced."""
    return replace(graph, nodes=tuple(changed.get(n.key, n) for n in graph.nodes), **more)


def fresh(graph: Graph, base: str) -> str:
    """A tensor name that the graph does not use yet, in the style of `base`."""
    used = {*graph.producers, *graph.initializers, *graph.input_names}
    name, i = base, 1
    while name in used:
        name, i = f"{base}_{i}", i + 1
    return name


def topological(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes ordered so that producers come first, otherwise as given. Raises EditError on a cycle."""
    made_by = {o: i for i, n in enumerate(nodes) for o in n.outputs if o}
    done: set[int] = set()
    order: list[Node] = []
    for start in range(len(nodes)):
        stack, path = [start], set[int]()
        while stack:
            i = stack[-1]
            waiting = [made_by[t] for t in nodes[i].reads if t in made_by and made_by[t] not in done]
            if i in done or not waiting:
                stack.pop()
                path.discard(i)
                if i not in done:
                    done.add(i)
                    order.append(nodes[i])
            elif i in path and any(w in path for w in waiting):
                raise EditError(f"the edits make a cycle through node {nodes[i].label!r}")
            else:
                path.add(i)
                stack.extend(reversed(waiting))
    return tuple(order)


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
        node = _node(graph, self.node)
        attrs = {k: v for k, v in node.attrs.items() if k != self.attribute}
        if self.value is not None:
            attrs[self.attribute] = self.value
        outputs = node.outputs
        if node.op == "BatchNormalization" and self.attribute == "training_mode":
            # ONNX wants the running statistics as outputs in training mode and only there (opset 14)
            statistics = (fresh(graph, f"{node.key}_mean"), fresh(graph, f"{node.key}_var"))
            outputs = (*outputs[:1], *statistics) if self.value else outputs[:1]
        return _swap(graph, {node.key: replace(node, attrs=attrs, outputs=outputs)})


@dataclass(frozen=True, eq=False, slots=True)
class SetInput:
    """Put a constant into a node's input slot (a weight, a bias, a Clip bound); None empties the slot.

    A tensor that other nodes share keeps its value for them.
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
        old = graph.constant(_node(graph, self.node), self.slot)
        if self.value is None:
            return 2.0
        if old is None or old.shape != self.value.shape:
            return 3.0 + float(np.log2(1 + self.value.size))
        return 2.0 + float(np.log2(1 + np.count_nonzero(old != self.value)))

    def apply(self, graph: Graph) -> Graph:
        """The graph with the constant in place, under its old name where nobody else reads that."""
        node = _node(graph, self.node)
        if self.value is None:
            return _swap(graph, {node.key: node.with_input(self.slot, "")})
        old = node.input(self.slot)
        own = old in graph.initializers and len(graph.consumers.get(old, ())) == 1 and old not in graph.output_names
        name = old if own else fresh(graph, old or f"{self.node}_in{self.slot}")
        tensors = {**graph.initializers, name: self.value}
        return _swap(graph, {node.key: node.with_input(self.slot, name)}, initializers=tensors)


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
        node = _node(graph, self.node)
        if self.tensor not in {*graph.producers, *graph.initializers, *graph.input_names}:
            raise EditError(f"{self.node}: cannot read {self.tensor!r}, the graph has no such tensor")
        changed = _swap(graph, {node.key: node.with_input(self.slot, self.tensor)})
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
        node = _node(graph, self.node)
        inputs = node.inputs if self.inputs is None else self.inputs
        new = replace(node, op=self.op, attrs=dict(self.attrs), inputs=inputs, domain=self.domain)
        changed = _swap(graph, {node.key: new}, initializers={**graph.initializers, **self.constants})
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
            consumer = changed.get(key) or _node(graph, key)
            changed[key] = consumer.with_input(slot, node.outputs[0])
        tensors = {**graph.initializers, **{names[n]: c for n, c in self.constants.items()}}
        result = _swap(graph, changed, initializers=tensors)
        result = replace(result, nodes=topological((*result.nodes, node)))
        if self.consumers is None and self.after in graph.output_names:
            return _rename(result, {self.after: fresh(result, f"{self.after}_pre"), node.outputs[0]: self.after})
        return result

    def _served(self, graph: Graph) -> tuple[tuple[str, int], ...]:
        if self.consumers is not None:
            return self.consumers
        return tuple((n.key, slot) for n, slot in graph.consumers.get(self.after, ()) if slot >= 0)


def _rename(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Rename tensors in all nodes (a graph output keeps the name it had)."""

    def new(t: str) -> str:
        return names.get(t, t)

    nodes = (
        n
        if not {*n.inputs, *n.outputs} & names.keys()
        else replace(n, inputs=tuple(map(new, n.inputs)), outputs=tuple(map(new, n.outputs)))
        for n in graph.nodes
    )
    return replace(graph, nodes=topological(tuple(nodes)))


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
        node = _node(graph, self.node)
        feed, out = node.input(self.slot), node.outputs[0]
        if not feed:
            raise EditError(f"cannot remove {self.node}: its input {self.slot} is empty")
        rest = replace(graph, nodes=tuple(n for n in graph.nodes if n is not node))
        if out not in graph.output_names:
            return _rename(rest, {out: feed})
        if feed in graph.producers and feed not in graph.output_names:
            return _rename(rest, {feed: out})
        identity = replace(node, op="Identity", inputs=(feed,), outputs=(out,), attrs={}, domain="")
        return _swap(graph, {node.key: identity})


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
        nodes = [
            replace(
                n,
                inputs=tuple(names.get(i, i) for i in n.inputs),
                outputs=tuple(names.get(o, o) for o in n.outputs),
                name=n.name and f"{n.name}",
            )
            for n in self.fragment.nodes
        ]
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


Edit = (
    SetAttribute
    | SetInput
    | Rewire
    | SetOperator
    | InsertNode
    | RemoveNode
    | ReplaceSegment
    | SetOutputs
    | SetInputShape
    | SetPreprocessing
)


def prune(graph: Graph) -> Graph:
    """The graph without nodes and tensors that no output needs."""
    needed, kept = set(graph.output_names), set[int]()
    for node in reversed(graph.nodes):
        if needed & {o for o in node.outputs if o}:
            kept.add(id(node))
            needed.update(node.reads)
    tensors = {k: v for k, v in graph.initializers.items() if k in needed}
    return replace(graph, nodes=tuple(n for n in graph.nodes if id(n) in kept), initializers=tensors)


def apply(graph: Graph, edits: Iterable[Edit]) -> Graph:
    """The graph after all edits, in order. Raises EditError where one does not fit."""
    step: Callable[[Graph, Edit], Graph] = lambda g, e: e.apply(g)  # noqa: E731
    for edit in edits:
        graph = step(graph, edit)
    return graph


def cost(graph: Graph, edits: Iterable[Edit]) -> float:
    """How much the edits change; the smallest wins. Unitless, comparable between candidates for one segment."""
    total = 0.0
    for edit in edits:
        total += edit.cost(graph)
        graph = edit.apply(graph)
    return total
