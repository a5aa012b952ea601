"""γ and β of a group normalisation are per group where they should be per channel.

*What goes wrong*
GroupNormalization has one scale per group in operator sets 18 to 20, and one per channel from 21 on. A converter keeps
one value a group (the first), or repeats the groups' values in turns (a b a b) instead of one after the other (a a b
b).

*How it shows*
Some channels are scaled and shifted; the target's γ or β is what one of these mistakes makes of the source's.

*Repair*
Set γ and β per channel; an operator that has them per group only gets a Mul and an Add behind it.

*When not to apply*
As many groups as channels, or values equal within each group: the forms are the same. Other values are wb-weights.

*Seen in*
onnxscript#1205
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.groupnorm import affine_of, norms, paired
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph

CODE = "vs-groupnorm"


def mistakes(values: Array, groups: int) -> dict[str, Array]:
    """What known mistakes make of γ or β per channel (C,), by what went wrong."""
    size = values.size // groups
    by_group = values.reshape(groups, size)
    made = {
        "the first value of each group stands for all of it": np.repeat(by_group[:, 0], size),
        "the mean of each group stands for all of it": np.repeat(by_group.mean(1), size),
        "the first values, one a group, are repeated in turns": np.tile(values[:groups], size),
        "one value of each group is repeated in turns": np.tile(by_group[:, 0], size),
        "the first values, one a group, stand for the groups": np.repeat(values[:groups], size),
    }
    return {how: wrong for how, wrong in made.items() if not close(wrong, values)}


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Group normalisations whose γ or β is a known mistake made of the source's."""
    if segment.healed(segment.error):
        return
    for ours, theirs in paired(norms(segment.target), norms(segment.source)):
        how = next((h for mine, right in ((ours.scale, theirs.scale), (ours.bias, theirs.bias))
                    for h, wrong in mistakes(right, theirs.groups).items() if close(mine, wrong)), None)
        if how is None:
            continue
        error, found = best(segment, affine_of(segment.full, ours, theirs.scale, theirs.bias))
        if found and error < segment.error:
            yield Suspicion(CODE, ours.node.key, theirs.node.key, sureness(segment, error, 0.98),
                            {"groups": ours.groups, "channels": ours.channels, "mistake": how},
                            f"scale or bias per channel: {how}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """γ and β per channel."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """γ and β by one of the mistakes."""
    places: list[list[Edit]] = []
    for norm in norms(graph):
        if not 1 < norm.groups < norm.channels:
            continue
        scales, biases = mistakes(norm.scale, norm.groups), mistakes(norm.bias, norm.groups)
        for how in dict.fromkeys((*scales, *biases)):
            scale, bias = scales.get(how, norm.scale), biases.get(how, norm.bias)
            places += [e for e in affine_of(graph, norm, scale, bias)[:1] if e]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Scale per group for scale per channel", "VS", detect, propose, inject)
