"""A branch that joins the wrong tensor, or does not join at all.

*What goes wrong*
A converter loses track of a tensor name: the residual Add reads another tensor of the same shape, or is dropped and the
branch goes on alone. The same happens to the Mul of a gate and to Concat.

*How it shows*
Shapes are right, values are not. Between the same anchors the join reads a tensor whose twin the source's join does not
read; or the source has a join more.

*Repair*
Rewire the operand to the twin of what the source reads; insert the join that was lost, or remove the one too many.

*When not to apply*
The twin of the source's operand is not in the target: then the segment is replaced (cg-unexplained).

*Seen in*
the category CG of arXiv 2312.15101
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import EditError
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.constants import concrete
from fetafix.graph.counterparts import best, in_target_terms, put_behind, sureness, twin_of
from fetafix.graph.segment import Segment
from fetafix.graph.units import units
from fetafix.ir import Graph, Node

CODE = "cg-residual"
JOINS = frozenset({"Add", "Mul", "Sub", "Sum", "Max", "Min", "Concat"})


def _joins(graph: Graph) -> list[Node]:
    """Nodes that bring several computed tensors together."""
    return [n for n in graph.nodes if n.op in JOINS and sum(t not in graph.initializers for t in n.inputs if t) > 1]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Compares what the joins of both sides read."""
    if segment.healed(segment.error):
        return
    ours, theirs = _joins(segment.target), _joins(segment.source)
    for twin in theirs:
        for node in (n for n in ours if n.op == twin.op):
            for edits, old, new in _rewirings(segment, node, twin):
                error = segment.trial(edits)
                sure = sureness(segment, error)
                if sure:
                    yield Suspicion(
                        CODE, node.key, twin.key, sure, {"reads": old, "should_read": new, "error_after": error},
                        f"{node.label} joins {old} where the source joins the twin of {new}", [list(edits)])
    for twin in theirs if len(theirs) > len(ours) else ():
        error, found = best(segment, _insertions(segment, twin))
        if found:
            yield Suspicion(
                CODE, segment.goal.target, twin.key, sureness(segment, error), {"missing": twin.op, "error_after": error},
                f"the source joins two branches by {twin.op} ({twin.label}), the target lacks that", found)
    for node in ours if len(ours) > len(theirs) else ():
        error, found = best(segment, [[ed.RemoveNode(node.key, i)] for i in range(len(node.inputs))])
        if found and error < 0.1 * segment.error:
            yield Suspicion(
                CODE, node.key, None, sureness(segment, error), {"extra": node.op, "error_after": error},
                f"the target joins two branches by {node.op} ({node.label}), the source does not", found)


def _rewirings(segment: Segment, node: Node, twin: Node) -> Iterator[tuple[list[Edit], str, str]]:
    """Single operands of a join replaced by the twins of what the source's join reads."""
    if len(node.inputs) != len(twin.inputs):
        return
    wanted = [twin_of(segment, t, node.key) for t in twin.inputs if t not in segment.source.initializers]
    names = {w.tensor for w in wanted if w is not None}
    for slot, old in enumerate(node.inputs):
        if old in names or old in segment.full.initializers:
            continue
        for new in sorted(names - set(node.inputs)):
            if _derived(segment.target, old, new):
                continue  # what lies between is to blame, not the join
            yield [ed.Rewire(node.key, slot, new)], old, new


def _derived(graph: Graph, tensor: str, start: str) -> bool:
    """Whether a tensor is computed from another alone, by nodes in a row."""
    maker = graph.producers.get(tensor)
    while maker is not None and tensor != start:
        data = [t for t in maker.inputs if t and t not in graph.initializers]
        if len(data) != 1:
            return False
        tensor = data[0]
        maker = graph.producers.get(tensor)
    return tensor == start


def _insertions(segment: Segment, twin: Node) -> Iterator[list[Edit]]:
    """The join behind each of its operands' twins, and where an operand has none behind what makes the goal."""
    like = next((a.target for a in segment.anchors if a.source in twin.inputs), None)
    known = {t: w for t in twin.inputs if (w := twin_of(segment, t, like)) is not None}
    if len(known) < len([t for t in twin.inputs if t not in segment.source.initializers]):
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


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The rewiring, insertion or removal that detection tried."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A residual operand reads another earlier tensor of its shape, or the join is dropped."""
    able: list[list[Edit]] = []
    order = [*graph.input_names, *(n.key for n in graph.nodes)]
    for node in _joins(graph):
        before = order[:order.index(node.key)]
        for slot, old in enumerate(node.inputs):
            same = [t for t in before if t not in node.inputs and concrete(graph, t) == concrete(graph, old) is not None]
            if same:
                able.append([ed.Rewire(node.key, slot, same[int(rng.integers(len(same)))])])
            if concrete(graph, old) == concrete(graph, node.key) and node.key not in graph.output_names:
                able.append([ed.RemoveNode(node.key, slot)])
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Branch joins the wrong tensor", "CG", detect, propose, inject)
