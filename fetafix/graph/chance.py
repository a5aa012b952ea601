"""Operators that answer differently from run to run, and what a graph is without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, apply, prune
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Attribute, Graph, Node

RANDOM = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
})  # fmt: skip
_JOINS = frozenset({"Mul", "Div", "Add", "Where"})
_RESCALE = frozenset({"Mul", "Div"})
_FAR = 6
_ROLES = {"GreaterOrEqual": "ratio", "Div": "keep"}


def live_dropout(node: Node, graph: Graph) -> bool:
    """Whether a node is a Dropout that drops: in training mode (opset 12 and later), its ratio not 0."""
    if node.op != "Dropout" or node.domain or graph.opset.get("", 1) < 12 or not node.input(2):
        return False
    training, ratio = graph.value_of(node.input(2)), graph.value_of(node.input(1)) if node.input(1) else None
    return (training is None or bool(training.any())) and (ratio is None or bool(ratio.any()))


def chancy(graph: Graph) -> list[Node]:
    """The nodes of a graph that draw random numbers, in its order."""
    return [n for n in graph.nodes if (n.op in RANDOM and not n.domain) or live_dropout(n, graph)]


def without(graph: Graph, node: Node) -> Iterator[Sequence[Edit]]:
    """Ways to take out what a random node does: itself, or what joins its numbers to the data, with a rescaling.

    What draws and prepares the numbers goes too.
    """
    if node.op == "Dropout":
        yield [RemoveNode(node.key)]
        return
    for edits in _ways(graph, node):
        live = {n.key for n in prune(graph).nodes}
        left = apply(graph, edits)
        needed = {n.key for n in prune(left).nodes}
        dead = [n for n in left.nodes if n.key in live - needed and n.input(0)]
        yield [*edits, *(RemoveNode(n.key) for n in dead)]


def _ways(graph: Graph, node: Node) -> Iterator[Sequence[Edit]]:
    """What comes first is removed first: the last node may make an output, whose name goes to what fed it."""
    drawn = {o for o in node.outputs if o}
    for _ in range(_FAR):
        readers = [(n, s) for t in drawn for n, s in graph.consumers.get(t, ())]
        for reader, _slot in readers:
            live = [i for i, t in enumerate(reader.inputs) if t and t not in drawn and not graph.fixed(t)]
            if reader.op in _JOINS and live:
                first = RemoveNode(reader.key, live[0])
                yield [first]
                behind = [n for n, _ in graph.consumers.get(reader.key, ())]
                if len(behind) == 1 and behind[0].op in _RESCALE and any(graph.fixed(t) for t in behind[0].inputs):
                    yield [first, RemoveNode(behind[0].key, behind[0].inputs.index(reader.key))]
                before = graph.producers.get(reader.inputs[live[0]])
                if before is not None and before.op in _RESCALE and any(graph.fixed(t) for t in before.inputs):
                    slot = next(i for i, t in enumerate(before.inputs) if not graph.fixed(t))
                    yield [RemoveNode(before.key, slot), first]
        drawn = {o for n, _ in readers if n.op not in _JOINS or not _live(n, drawn, graph) for o in n.outputs if o}
        if not drawn:
            return


def _live(node: Node, drawn: set[str], graph: Graph) -> bool:
    return any(t and t not in drawn and not graph.fixed(t) for t in node.inputs)


def masked(graph: Graph, node: Node, ratio: float) -> list[Edit]:
    """Random zeros in what a node makes, and the rest scaled up: x · (u ≥ ratio) / (1 − ratio), u uniform in 0…1."""
    readers = tuple((n.key, slot) for n, slot in graph.consumers.get(node.key, ()) if slot >= 0)
    edits: list[Edit] = []

    def put(op: str, inputs: tuple[str, ...], attrs: dict[str, Attribute], value: float | None = None) -> str:
        """Append a node; returns what it makes."""
        now = apply(graph, edits)
        name, out = like(now, op, node)
        held = {} if value is None else {tensor_like(now, _ROLES[op], node): np.asarray(value, np.float32)}
        made = Node(op, (*inputs, *held), (out,), attrs, name)
        edits.append(InsertNode(inputs[0], made, held, readers if op == "Mul" else ()))
        return out

    mask = put("RandomUniformLike", (node.key,), {"dtype": 1})
    mask = put("Cast", (put("GreaterOrEqual", (mask,), {}, ratio),), {"to": 1})
    put("Mul", (put("Div", (node.key,), {}, 1 - ratio), mask), {})
    return edits
