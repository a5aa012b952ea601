"""Two graphs edited side by side: which tensor of the one stands for which of the other, edit after edit.

The first graph is the one that the edits were made for; the second is what they are carried over to. Names are looked
up in the first and answered in the second's. A node goes by its key, which is a tensor's name too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetInputShape,
    SetOperator,
    SetOutputs,
    SetPreprocessing,
)
from fetafix.edits.surgery import free
from fetafix.graph.structure import COMMUTATIVE, Correspondence
from fetafix.ir import Body, Graph, Node


class Misfit(Exception):
    """An edit does not fit the other graph, for the reason given."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a cursor stood."""

    first: Graph
    second: Graph
    names: Mapping[str, str]


class Cursor:
    """The two graphs as they are now, and the names of the second for those of the first."""

    def __init__(self, first: Graph, second: Graph, found: Correspondence) -> None:
        self.first, self.second = first, second
        self._names: dict[str, str] = {}
        for a, b in found.nodes.items():
            pair = self.first.producers[a], self.second.producers[b]
            self._pair(pair[0].outputs, pair[1].outputs)
        for a, b in found.nodes.items():
            self._feeds(self.first.producers[a], self.second.producers[b])
        self._inputs()

    def tensor(self, name: str) -> str:
        """The second graph's name for a tensor of the first. Raises Misfit where it has no such tensor."""
        if name not in self._names:
            raise Misfit(f"it has nothing that stands for {_whose(self.first, name)}")
        return self._names[name]

    def knows(self, name: str) -> bool:
        """Whether a tensor of the first graph has a counterpart."""
        return name in self._names

    def node(self, key: str) -> tuple[Node, Node]:
        """A node of the first graph and its counterpart. Raises Misfit."""
        node = self.first.producers.get(key)
        if node is None:
            raise Misfit(f"the patch names a node {key!r} that it does not hold")
        other = self.second.producers.get(self.tensor(key))
        if other is None or (other.op, other.domain) != (node.op, node.domain):
            raise Misfit(f"it has {other.op if other else 'nothing'} where the repaired model has {node.op}")
        return node, other

    def slot(self, key: str, slot: int) -> int:
        """The counterpart's slot that reads what the node reads in `slot`."""
        node, other = self.node(key)
        if node.op not in COMMUTATIVE or len(node.inputs) != len(other.inputs):
            return slot
        want = self._names.get(node.input(slot))
        return next((i for i, t in enumerate(other.inputs) if t == want), slot)

    def mark(self) -> Mark:
        """Where the cursor stands."""
        return Mark(self.first, self.second, dict(self._names))

    def reset(self, mark: Mark, first: Graph) -> None:
        """Go back, but with another first graph."""
        self.first, self.second, self._names = first, mark.second, dict(mark.names)

    def advance(self, edit: Edit, other: Edit | None) -> None:
        """Apply an edit to the first graph, and its translation to the second where there is one."""
        self.first = edit.apply(self.first)
        if other is None:
            return
        self.second = other.apply(self.second)
        for node in reversed(self.first.nodes):
            twin = self.second.producers.get(self._names.get(node.key, ""))
            if twin is not None:
                self._feeds(node, twin)

    def translated(self, edit: Edit) -> Edit:
        """The edit in the second graph's names. Raises Misfit where something that it names has no counterpart."""
        match edit:
            case SetAttribute():
                return replace(edit, node=self.node(edit.node)[1].key)
            case SetInput():
                return replace(edit, node=self.node(edit.node)[1].key, slot=self.slot(edit.node, edit.slot))
            case Rewire():
                key, slot = self.node(edit.node)[1].key, self.slot(edit.node, edit.slot)
                return Rewire(key, slot, self.tensor(edit.tensor))
            case RemoveNode():
                return RemoveNode(self.node(edit.node)[1].key, self.slot(edit.node, edit.slot))
            case SetOperator():
                return self._operator(edit)
            case InsertNode():
                return self._insertion(edit)
            case ReplaceSegment():
                return self._segment(edit)
            case SetOutputs():
                return SetOutputs(tuple(map(self.tensor, edit.outputs)))
            case SetInputShape():
                return SetInputShape(self.tensor(edit.input), edit.shape)
            case SetPreprocessing():
                return replace(edit, input=self._names.get(edit.input, "") if edit.input else "")

    def _operator(self, edit: SetOperator) -> SetOperator:
        node, other = self.node(edit.node)
        own = {c: free(c, self._taken()) for c in edit.constants}
        wanted = node.inputs if edit.inputs is None else edit.inputs
        inputs = tuple(own.get(t) or (self.tensor(t) if t else "") for t in wanted)
        constants = {own[c]: v for c, v in edit.constants.items()}
        kept = None if edit.inputs is None and inputs == other.inputs else inputs
        return replace(edit, node=other.key, inputs=kept, constants=constants)

    def _insertion(self, edit: InsertNode) -> InsertNode:
        _refuse_bodies(edit.node)
        own: dict[str, str] = {}
        for name in (*edit.constants, *(o for o in edit.node.outputs if o)):
            own[name] = free(name, {*self._taken(), *own.values()})
        reads = (t if not t else own[t] if t in edit.constants else self.tensor(t) for t in edit.node.inputs)
        node = replace(edit.node, inputs=tuple(reads), outputs=tuple(own.get(o, o) for o in edit.node.outputs))
        readers = edit.consumers
        served = None if readers is None else tuple((self.node(k)[1].key, self.slot(k, s)) for k, s in readers)
        return InsertNode(self.tensor(edit.after), node, {own[c]: v for c, v in edit.constants.items()}, served)

    def _segment(self, edit: ReplaceSegment) -> ReplaceSegment:
        for node in edit.fragment.nodes:
            _refuse_bodies(node)
        bind = {t: self.tensor(edit.bind.get(t, t)) for t in edit.fragment.input_names}
        return ReplaceSegment(self.tensor(edit.output), edit.fragment, bind)

    def _taken(self) -> set[str]:
        g = self.second
        return {*g.producers, *g.initializers, *g.input_names}

    def _pair(self, names: tuple[str, ...], others: tuple[str, ...]) -> list[tuple[str, str]]:
        """Note down which names stand for which, where that is new; what was noted down."""
        new = [(a, b) for a, b in zip(names, others, strict=False) if a and b and a not in self._names]
        self._names.update(new)
        return new

    def _feeds(self, node: Node, twin: Node) -> None:
        """What a pair of nodes reads, and what makes that where it was not known yet."""
        if node.op in COMMUTATIVE:
            used = {self._names[t] for t in node.inputs if t in self._names}
            ours = [t for t in node.inputs if t not in self._names]
            theirs = [t for t in twin.inputs if t not in used]
            alike = [(a, b) for a in ours for b in theirs if _kind(self.first, a) == _kind(self.second, b)]
            pairs = tuple(alike[:1]) if len(ours) == 1 else ()
        else:
            pairs = tuple(zip(node.inputs, twin.inputs, strict=False))
        for a, b in self._pair(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)):
            maker, other = self.first.producers.get(a), self.second.producers.get(b)
            if (maker is None) != (other is None) or (maker and other and maker.op != other.op):
                del self._names[a]  # not the same after all
            elif maker is not None and other is not None:
                self._pair(maker.outputs, other.outputs)
                self._feeds(maker, other)

    def _inputs(self) -> None:
        """Graph inputs that nothing told apart stand for each other in their order."""
        ours = [v.name for v in self.first.inputs if v.name not in self._names]
        used = set(self._names.values())
        theirs = [v.name for v in self.second.inputs if v.name not in used]
        if len(ours) == len(theirs):
            self._pair(tuple(ours), tuple(theirs))


def _kind(graph: Graph, tensor: str) -> str:
    """How a tensor comes about: given, constant, or by which operator."""
    maker = graph.producers.get(tensor)
    return maker.op if maker is not None else "constant" if tensor in graph.initializers else "input"


def _whose(graph: Graph, name: str) -> str:
    maker = graph.producers.get(name)
    return f"{maker.op} {maker.label}" if maker is not None else f"tensor {name}"


def _refuse_bodies(node: Node) -> None:
    if any(isinstance(a, Body) and a.captures for a in node.attrs.values()):
        raise Misfit(f"{node.op} holds a sub-graph that reads tensors by name, which cannot be carried over")


