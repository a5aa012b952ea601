"""Masks of attention scores put as the source has them."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.edits import Edit, RemoveNode, Rewire, SetAttribute, SetInput
from fetafix.graph.attentions import Attention, attentions
from fetafix.graph.counterparts import counterparts, in_target_terms, put_behind, twin_of
from fetafix.graph.graft import graft
from fetafix.graph.parameters import differing
from fetafix.graph.segment import Segment
from fetafix.ir import Node

_MASK = 3  # the slot of an Attention operator


def wrong_constant(segment: Segment, ours: Attention) -> Iterator[list[Edit]]:
    """A constant mask with other values than its twin."""
    if ours.mask is not None:
        yield from ([p.edit(segment.full)] for p in differing(segment) if p.node.key == ours.mask[0].key)


def masked(segment: Segment, ours: Attention) -> Iterator[list[Edit]]:
    """The source's mask on the target's scores, the target's taken away, is_causal turned, the source's nodes."""
    if ours.product is None:
        yield from _operator(segment, ours.node)
        return
    theirs = [n for n in segment.source.nodes if n.op in ("Add", "Where")]
    if ours.mask is None:
        for node in theirs:
            yield from _put(segment, ours, node)
    else:
        yield [RemoveNode(*_removed(ours))]
    if theirs or any(a.product is None for a in attentions(segment.source)):
        edit = graft(segment, {*counterparts(segment), *(a.source for a in segment.anchors)} - {segment.goal.source})
        if edit is not None:
            yield [edit]


def _removed(ours: Attention) -> tuple[str, int]:
    assert ours.mask is not None
    return ours.mask[0].key, ours.mask[1]


def _put(segment: Segment, ours: Attention, node: Node) -> Iterator[list[Edit]]:
    """A mask of the source behind the target's scores, whichever of its inputs the scores are."""
    graph = segment.full
    for slot, tensor in enumerate(node.inputs):
        if segment.source.fixed(tensor):
            continue
        names = {t: w.tensor for t in node.inputs if (w := twin_of(segment, t)) is not None}
        names[tensor] = ours.scores
        made = in_target_terms(segment, node, names, None, graph, graph.producers.get(ours.scores))
        if made is not None and made[0].input(slot) == ours.scores:
            yield from put_behind(segment, ours.scores, *made)


def _operator(segment: Segment, node: Node) -> Iterator[list[Edit]]:
    """is_causal turned; the mask that the source's operator or chain adds."""
    if not node.domain:
        yield [SetAttribute(node.key, "is_causal", None if node.attrs.get("is_causal") else 1)]
    for theirs in segment.source.nodes:
        slots = (_MASK,) if theirs.op == node.op else (0, 1) if theirs.op == "Add" else ()
        for tensor in (theirs.input(s) for s in slots if theirs.input(s)):
            value, twin = segment.source.value_of(tensor), twin_of(segment, tensor)
            if value is not None:
                yield [SetInput(node.key, _MASK, value)]
            elif twin is not None:
                yield [Rewire(node.key, _MASK, twin.tensor)]
