"""Branches of the source that the target does not compute at all: put back node by node, and read where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import EditError
from fetafix.graph.counterparts import in_target_terms, twin_of
from fetafix.graph.expand import expanded
from fetafix.graph.joins import joins, spelled_out
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

_LONGEST = 64


@dataclass(frozen=True)
class Lost:
    """A branch that the target lacks. at: the target tensor or join that stands where the branch should come in.

    join: the source's node that brings the branch in. edits: compute the branch, read it where it belongs.
    """

    at: str
    join: Node
    edits: tuple[Edit, ...]


def lost(segment: Segment) -> Iterator[Lost]:
    """Joins with an operand that is nowhere in the target; blocks of the source, join and all, that are skipped."""
    for twin in joins(segment.source):
        for node in (n for n in joins(segment.target) if n.op == twin.op and len(n.inputs) == len(twin.inputs)):
            yield from _operand(segment, node, twin)
    yield from _block(segment)
    yield from _rejoined(segment)


def _operand(segment: Segment, node: Node, twin: Node) -> Iterator[Lost]:
    known = {t: w.tensor for t in twin.inputs if (w := twin_of(segment, t, node.key)) is not None}
    missing = [t for t in twin.inputs if t not in known and not segment.source.fixed(t)]
    wrong = [i for i, t in enumerate(node.inputs) if t not in known.values()]
    if len(missing) == len(wrong) == 1:
        made = _computed(segment, missing[0])
        if made is not None:
            yield Lost(node.key, twin, (*made[0], ed.Rewire(node.key, wrong[0], made[1])))


def _block(segment: Segment) -> Iterator[Lost]:
    """The goal's node reads an earlier tensor than its twin does; between the two the source joins branches."""
    node = segment.full.producers[segment.goal.target]
    twin = _unfolded(segment.source, segment.goal.source, node.op)
    for slot, (ours, theirs) in enumerate(zip(node.inputs, twin.inputs, strict=False) if twin is not None else ()):
        skipped = segment.source.between([a.source for a in segment.anchors], [theirs])
        inside = [n for n in joins(skipped) if not spelled_out(skipped, n)]
        if ours not in segment.pairs or theirs not in segment.source.producers or not inside:
            continue
        if any(n.op.startswith("Scatter") for n in skipped.nodes):  # an assignment in place, not a branch
            continue
        made = _computed(segment, theirs) if twin_of(segment, theirs) is None else None
        if made is not None:
            yield Lost(ours, inside[-1], (*made[0], *_readers(segment, ours, made[1], (node.key, slot))))


def _rejoined(segment: Segment) -> Iterator[Lost]:
    """A join of which the target goes on with one operand alone: the others are computed, and its readers read all."""
    for join in (j for j in joins(segment.source) if not spelled_out(segment.source, j)):
        known = {t: w for t in join.inputs if (w := twin_of(segment, t)) is not None and w.perm is None}
        live = [t for t in join.inputs if t and not segment.source.fixed(t)]
        if len(known) in (0, len(live)) or twin_of(segment, join.key) is not None:
            continue
        made = _computed(segment, join.key)
        for start in known.values() if made is not None else ():
            readers = [(n.key, slot) for n, slot in segment.target.consumers.get(start.tensor, ()) if slot >= 0]
            if readers and made is not None:
                rewired = (ed.Rewire(key, slot, made[1]) for key, slot in readers)
                yield Lost(readers[0][0], join, (*made[0], *rewired))


def _unfolded(graph: Graph, tensor: str, op: str) -> Node | None:
    """What makes a tensor, before a normalisation that the other model has folded into it."""
    node = graph.producers.get(tensor)
    if node is not None and node.op == "BatchNormalization" and op != node.op:
        node = graph.producers.get(node.input(0))
    return node if node is not None and node.op == op else None


def _readers(segment: Segment, tensor: str, new: str, goal: tuple[str, int]) -> list[Edit]:
    """All readers of a tensor that repeats an earlier one stand where the block should have been; else the goal's."""
    source = segment.pairs[tensor]
    repeats = sum(s == source for s in segment.pairs.values()) > 1
    all_readers = [(n.key, slot) for n, slot in segment.full.consumers.get(tensor, ()) if slot >= 0]
    return [ed.Rewire(key, slot, new) for key, slot in (all_readers if repeats else [goal])]


def _computed(segment: Segment, wanted: str) -> tuple[list[Edit], str] | None:
    """(edits that compute a source tensor from the last tensors that the target has, its name there)."""
    piece = segment.source.between([s for s in _held(segment) if s != wanted], [wanted])
    piece = expanded(piece, segment.full.opset.get("", 0)) if piece.nodes else piece
    if not 0 < len(piece.nodes) <= _LONGEST:
        return None
    names: dict[str, str] = {}
    for tensor in piece.input_names:
        twin = twin_of(segment, tensor)
        if twin is None or twin.perm is not None:
            return None
        names[tensor] = twin.tensor
    return _inserted(segment, piece, names, wanted)


def _held(segment: Segment) -> set[str]:
    """Source tensors of the segment that the target holds somewhere."""
    made = {n.key for n in segment.source.nodes} | set(segment.source.input_names)
    return {t for t in made if twin_of(segment, t) is not None}


def _inserted(segment: Segment, piece: Graph, names: dict[str, str], wanted: str) -> tuple[list[Edit], str] | None:
    graph, edits = segment.full, list[Edit]()
    source = replace(segment.source, initializers={**segment.source.initializers, **piece.initializers})
    segment = replace(segment, source=source)  # with the constants of what is spelled out
    for node in piece.nodes:
        start = next((names[t] for t in node.inputs if t in names), None)
        near = graph.producers.get(start) if start is not None else None
        made = in_target_terms(segment, node, names, None, graph, near)
        if made is None or start is None:
            return None
        edits.append(ed.InsertNode(start, made[0], made[1], ()))
        try:
            graph = edits[-1].apply(graph)
        except EditError:
            return None
        names[node.key] = made[0].key
    return edits, names[wanted]
