"""Attention with another scale, or without its mask.

*What goes wrong*
Scores are divided by d instead of √d, by the model's width instead of a head's, or not at all; a causal or padding mask
is dropped, or is_causal is not written.

*How it shows*
The Softmax is flatter or sharper than the source's; without the causal mask the first row attends to all tokens.

*Repair*
The scale: the number, the attribute, or a Mul where there is none. The mask: its Add or Where put back, is_causal set.

*When not to apply*
NO-OP: queries scaled before the product instead of scores behind it; a mask of −10⁴ for one of −∞.

*Seen in*
onnxscript PR#2479
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, RemoveNode, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attentions import Attention, attentions
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.masks import masked, wrong_constant
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Graph

CODE = "lh-attn"
_POWERS = (-0.5, -1.0, 0.0, -0.25, 0.5)
_SAME = 1e-4


def _scales(segment: Segment, ours: Attention) -> Iterator[float]:
    """Scales that the source may have: its own, what a constant's twin says, then the usual powers of the width."""
    partner = {t.key: s for t, s in twins(segment)}
    now = ours.scale(segment.full)
    for node, slot in ours.factors:
        twin = partner.get(node.key)
        value = segment.source.constant(twin, slot) if twin is not None and twin.op == node.op else None
        if value is not None and value.size == 1 and (number := float(value.reshape(-1)[0])) > 0:
            change = number / float(np.asarray(segment.full.constant(node, slot)).reshape(-1)[0])
            yield now * (change if node.op == "Mul" else 1 / change)
    yield from (a.scale(segment.source) for a in attentions(segment.source) if a.product is None or a.factors)
    yield from (ours.width**p for p in _POWERS if ours.width)


def _inside(segment: Segment) -> list[Attention]:
    """Attentions of the target of which the segment holds the operator, the product, the scale or the mask."""
    keys = {n.key for n in segment.target.nodes}
    return [a for a in attentions(segment.full)
            if keys & {n.key for n in (a.node, a.product, *(a.mask or ())[:1], *(f for f, _ in a.factors)) if n}]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Scales and masks that heal when they are as in the source."""
    if segment.healed(segment.error):
        return
    partner = {t.key: s.key for t, s in twins(segment)}
    for ours in _inside(segment):
        now, tried = ours.scale(segment.full), set[float]()
        for scale in _scales(segment, ours):
            edit = ours.rescaled(segment.full, scale)
            if edit is None or abs(scale - now) <= _SAME * now or round(scale, 9) in tried:
                continue
            tried.add(round(scale, 9))
            error = segment.trial([edit])
            if segment.healed(error):
                node = ours.factors[-1][0] if ours.factors else ours.product or ours.node
                yield Suspicion(CODE, node.key, partner.get(node.key), sureness(segment, error, 0.97),
                                {"scale": now, "source_scale": scale, "head": ours.width, "error_after": error},
                                f"scores are multiplied by {now:g}, in the source by {scale:g}", [[edit]])
                return
        error, found = best(segment, [*wrong_constant(segment, ours), *masked(segment, ours)])
        if found and segment.healed(error):
            node = ours.mask[0] if ours.mask is not None else ours.node
            yield Suspicion(CODE, node.key, partner.get(node.key), sureness(segment, error, 0.97),
                            {"masked": ours.mask is not None, "error_after": error},
                            "the scores are masked otherwise than in the source", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """What detection tried."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """1/√d becomes 1/d or 1; the mask is dropped."""
    able: list[Edit | None] = []
    for found in attentions(graph):
        able += [found.rescaled(graph, found.scale(graph) * f) for f in (found.width**-0.5, found.width**0.5)
                 if found.width > 1 and (found.factors or found.product is None)]
        if found.mask is not None:
            able.append(RemoveNode(found.mask[0].key, found.mask[1]))
        elif found.node.attrs.get("is_causal"):
            able.append(SetAttribute(found.node.key, "is_causal", None))
        elif found.product is None and found.node.input(3) and not found.node.domain:
            able.append(SetInput(found.node.key, 3, None))
    edits = [e for e in able if e is not None]
    return [edits[int(rng.integers(len(edits)))]] if edits else None


FAULT = FaultType(CODE, "Attention with another scale or mask", "LH", detect, propose, inject)
