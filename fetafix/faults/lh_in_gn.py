"""A group or instance normalisation has other groups, or another ε.

*What goes wrong*
num_groups is misread, or a group normalisation of one group became an InstanceNormalization, which normalises each
channel alone; ε is dropped for the default 1e-5 (Keras: 1e-3).

*How it shows*
The unit (GroupNormalization, InstanceNormalization, or Reshape, InstanceNormalization, Reshape, Mul, Add) of the twins
differs in groups or ε. ε shows where a group's variance is small.

*Repair*
Take over the source's groups and ε in the form that the target has; γ and β per channel stay.

*When not to apply*
Another form of the same unit. γ and β that were reordered or spread wrongly are vs-groupnorm; those of
LayerNormalization are lh-ln-eps.

*Seen in*
TensorRT#4756
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, apply
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.compare import same
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.groupnorm import GroupNorm, norms, paired, regrouped
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "lh-in-gn"
_EPSILONS = (1e-5, 1e-3, 1e-1)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Normalisations with other groups or ε than their twins, where the source's help."""
    if segment.healed(segment.error):
        return
    for ours, theirs in paired(norms(segment.target), norms(segment.source)):
        grouping, shift = ours.groups != theirs.groups, not same(ours.epsilon, theirs.epsilon)
        error, found = best(segment, _ways(segment, ours, theirs, shift)) if grouping or shift else (0.0, [])
        if found and error < segment.error:
            evidence: dict[str, float] = {"groups": ours.groups, "source_groups": theirs.groups} if grouping else {}
            evidence |= {"epsilon": ours.epsilon, "source_epsilon": theirs.epsilon} if shift else {}
            said = [f"normalises {ours.groups} group(s), the source {theirs.groups}"] if grouping else []
            said += [f"ε is {ours.epsilon:g}, in the source {theirs.epsilon:g}"] if shift else []
            yield Suspicion(CODE, ours.node.key, theirs.node.key, sureness(segment, error, 0.97), evidence,
                            "; ".join(said), found)


def _ways(segment: Segment, ours: GroupNorm, theirs: GroupNorm, shift: bool) -> list[list[Edit]]:
    graph = segment.full
    epsilon: list[Edit] = [SetAttribute(ours.node.key, "epsilon", theirs.epsilon)] if shift else []
    if ours.groups == theirs.groups:
        return [epsilon]
    if theirs.groups == theirs.channels and theirs.reshape is None and ours.reshape is None:
        return [[*way, *epsilon] for way in regrouped(graph, ours, theirs.groups)]
    return [[*epsilon, *way] for way in regrouped(apply(graph, epsilon), ours, theirs.groups)]


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's groups and ε."""
    return suspicion.data  # type: ignore[no-any-return]


def _other(channels: int, groups: int) -> list[int]:
    """Other numbers of groups, none of a single value: twice and half as many."""
    return [g for g in (2 * groups, groups // 2) if 1 <= g < channels and channels % g == 0]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Twice or half as many groups, or another framework's ε."""
    places: list[list[Edit]] = []
    for norm in norms(graph):
        if norm.groups < norm.channels or norm.reshape is not None:
            places += [e for g in _other(norm.channels, norm.groups) for e in regrouped(graph, norm, g)[:1] if e]
        places += [[SetAttribute(norm.node.key, "epsilon", e)] for e in _EPSILONS if e > 2 * norm.epsilon]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Other groups or ε of a normalisation", "LH", detect, propose, inject)
