"""Another ε in a LayerNormalization.

*What goes wrong*
BERT has 1e-12, torch 1e-5, Keras 1e-3; a converter drops the attribute, takes its framework's default, or spells the
normalisation out with another constant.

*How it shows*
Tokens of small variance are scaled by √((σ²+ε')/(σ²+ε)); at a variance of 1 the error is about (ε−ε')/2.

*Repair*
Take over ε: the attribute, or the constant before the Sqrt.

*When not to apply*
NO-OP: ε far below every variance that occurs. BatchNormalization is lh-bn-eps, Instance- and GroupNormalization
lh-in-gn, an operator that fuses Add and normalisation with its own ε cg-bad-fusion.

*Seen in*
candle PR#271
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import sureness
from fetafix.graph.norms import Norm, norm_of, norms
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Graph, Node

CODE = "lh-ln-eps"
_USUAL = (1e-12, 1e-6, 1e-5, 1e-3)
_SAME = 1e-3


def _pairs(segment: Segment) -> Iterator[tuple[Norm, Node, float]]:
    """Normalisations of the target, the source's node that stands for each, and its ε."""
    partner = {t.key: s for t, s in twins(segment)}
    theirs = norms(segment.source)
    for node in segment.target.nodes:
        ours = norm_of(segment.full, node)
        if ours is None:
            continue
        twin = partner.get(node.key)
        value = segment.source.constant(twin, ours.slot) if twin is not None and twin.op == node.op == "Add" else None
        if twin is not None and value is not None and value.size == 1:
            yield ours, twin, float(value.reshape(-1)[0])
        else:
            yield from ((ours, t.node, t.epsilon) for t in theirs if twin is None or t.node is twin)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Normalisations with another ε than the source's, in whatever form either is written."""
    if segment.healed(segment.error):
        return
    for ours, twin, epsilon in _pairs(segment):
        if abs(ours.epsilon - epsilon) <= _SAME * max(ours.epsilon, epsilon):
            continue
        edits = [ours.edit(segment.full, epsilon)]
        error = segment.trial(edits)
        if error < segment.error:
            yield Suspicion(CODE, ours.node.key, twin.key, sureness(segment, error, 0.97),
                            {"epsilon": ours.epsilon, "source_epsilon": epsilon, "error_after": error},
                            f"ε is {ours.epsilon:g}, in the source {epsilon:g}", edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's ε here; then at all normalisations of the segment."""
    yield suspicion.data
    every = [ours.edit(segment.full, epsilon) for ours, _, epsilon in _pairs(segment) if ours.epsilon != epsilon]
    if len(every) > 1:
        yield every


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another framework's ε."""
    places = [(n, e) for n in norms(graph) for e in _USUAL if max(n.epsilon, e) >= 9 * min(n.epsilon, e)]
    if not places:
        return None
    norm, epsilon = places[int(rng.integers(len(places)))]
    return [norm.edit(graph, epsilon)]


FAULT = FaultType(CODE, "Wrong LayerNorm ε", "LH", detect, propose, inject)
