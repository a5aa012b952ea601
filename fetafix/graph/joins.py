"""Where branches of a graph come together, and how a join can be set right: other operands, or the join put back."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import EditError
from fetafix.graph.counterparts import in_target_terms, put_behind, twin_of
from fetafix.graph.norms import centres
from fetafix.graph.segment import Segment
from fetafix.graph.units import ACTIVATIONS, units
from fetafix.ir import Graph, Node

ELEMENTWISE = ACTIVATIONS | {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Reciprocal", "Identity", "Cast"}
JOINS = frozenset({"Add", "Mul", "Sub", "Sum", "Max", "Min", "Concat"})


def joins(graph: Graph) -> list[Node]:
    """Nodes that bring several computed tensors together."""
    return [n for n in graph.nodes if n.op in JOINS and len({t for t in n.inputs if t and not graph.fixed(t)}) > 1
            and not centres(n, graph)]


def spelled_out(graph: Graph, node: Node) -> bool:
    """Whether a join is part of a function of one tensor, element by element: an activation, such as x · σ(x)."""
    live = {t for t in node.inputs if t and not graph.fixed(t)}
    return any(all(t == start or _of(graph, t, start) for t in live) for start in live)


def _of(graph: Graph, tensor: str, start: str) -> bool:
    """Whether a tensor is computed from another alone, element by element."""
    maker = graph.producers.get(tensor)
    if maker is None or maker.op not in ELEMENTWISE:
        return False
    live = {t for t in maker.inputs if t and not graph.fixed(t)}
    return bool(live) and all(t == start or _of(graph, t, start) for t in live)


def rewirings(segment: Segment, node: Node, twin: Node) -> Iterator[tuple[list[Edit], str, str]]:
    """Single operands of a join replaced by the twins of what the source's join reads."""
    if len(node.inputs) != len(twin.inputs):
        return
    wanted = [twin_of(segment, t, node.key) for t in twin.inputs if not segment.source.fixed(t)]
    names = {w.tensor for w in wanted if w is not None}
    for slot, old in enumerate(node.inputs):
        if old in names or segment.full.fixed(old):
            continue
        for new in sorted(names - set(node.inputs)):
            if _derived(segment.target, old, new):
                continue  # what lies between is to blame, not the join
            yield [ed.Rewire(node.key, slot, new)], old, new


def _derived(graph: Graph, tensor: str, start: str) -> bool:
    """Whether a tensor is computed from another alone, by nodes in a row."""
    maker = graph.producers.get(tensor)
    while maker is not None and tensor != start:
        data = [t for t in maker.inputs if t and not graph.fixed(t)]
        if len(data) != 1:
            return False
        tensor = data[0]
        maker = graph.producers.get(tensor)
    return tensor == start


def insertions(segment: Segment, twin: Node) -> Iterator[list[Edit]]:
    """The join behind each of its operands' twins, and where an operand has none behind what makes the goal."""
    like = next((a.target for a in segment.anchors if a.source in twin.inputs), None)
    known = {t: w for t in twin.inputs if (w := twin_of(segment, t, like)) is not None}
    if len(known) < len([t for t in twin.inputs if not segment.source.fixed(t)]):
        lost = [t for t in twin.inputs if t not in known]
        if len(lost) != 1 or twin.key != segment.goal.source:
            return
        names = {**{t: w.tensor for t, w in known.items()}, lost[0]: segment.goal.target}
        starts = [(segment.goal.target, segment.goal.layout.perm)]
    else:
        names = {t: w.tensor for t, w in known.items()}
        starts = [(w.tensor, w.perm) for w in known.values()]
    for tensor, perm in starts:
        near = segment.full.producers.get(tensor)
        made = in_target_terms(segment, twin, names, perm, segment.full, near)
        for way in put_behind(segment, tensor, *made) if made is not None else ():
            yield way
            if made is not None:
                yield from _activated(segment, twin, way, made[0].key, perm)


def _activated(
    segment: Segment, twin: Node, way: list[Edit], tensor: str, perm: tuple[int, ...] | None
) -> Iterator[list[Edit]]:
    """A join inserted together with the activation behind it, which went with the join."""
    unit = next((u for u in units(segment.source) if u.start == twin.key and len(u.nodes) == 1), None)
    if unit is not None:
        try:
            graph = ed.apply(segment.full, way)
        except EditError:
            return
        made = in_target_terms(segment, unit.nodes[0], {twin.key: tensor}, perm, graph, graph.producers.get(tensor))
        if made is not None:
            yield [*way, ed.InsertNode(tensor, *made)]
