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

from fetafix.edits import Edit, RemoveNode, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.groupnorm import GroupNorm, affine_of, norms, paired
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

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
        how = _mistake((ours.scale, theirs.scale), theirs.groups) or _mistake((ours.bias, theirs.bias), theirs.groups)
        ways = affine_of(segment.full, ours, theirs.scale, theirs.bias) if how else []
        yield from _claim(segment, ours, theirs.node, ways, how)
    own = {n.key for n in segment.target.nodes}
    pairs = {t.key: s for t, s in twins(segment)}
    for norm in norms(segment.full):
        for node, slot in norm.affine if norm.node.key not in own else ():
            old, twin = segment.full.constant(node, slot), pairs.get(node.key)
            held = [segment.source.constant(twin, i) for i in range(2)] if twin is not None else []
            right = next((v.reshape(-1) for v in held if v is not None and v.size == norm.channels), None)
            how = None if right is None or old is None else _mistake((old.reshape(-1), right), norm.groups)
            if how and right is not None and old is not None and twin is not None:
                edit = SetInput(node.key, slot, right.reshape(old.shape).astype(old.dtype))
                yield from _claim(segment, norm, twin, [[edit]], how, node)


def _mistake(values: tuple[Array, Array], groups: int) -> str | None:
    """What makes the first of the second, γ or β per channel."""
    mine, right = values
    return next((how for how, wrong in mistakes(right, groups).items() if close(mine, wrong)), None)


def _claim(
    segment: Segment, norm: GroupNorm, twin: Node, ways: list[list[Edit]], how: str | None, at: Node | None = None
) -> Iterator[Suspicion]:
    error, found = best(segment, ways)
    if found and error < segment.error:
        yield Suspicion(CODE, (at or norm.node).key, twin.key, sureness(segment, error, 0.98),
                        {"groups": norm.groups, "channels": norm.channels, "mistake": how},
                        f"scale or bias per channel: {how}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """γ and β per channel."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """γ or β by one of the mistakes; or the first of each group in the normalisation's own slots, nothing behind."""
    places: list[list[Edit]] = []
    for norm in norms(graph):
        if not 1 < norm.groups < norm.channels:
            continue
        scales, biases = mistakes(norm.scale, norm.groups), mistakes(norm.bias, norm.groups)
        for how in dict.fromkeys((*scales, *biases)):
            wrong = [(scales.get(how, norm.scale), norm.bias), (norm.scale, biases.get(how, norm.bias))]
            places += [e for pair in wrong for e in affine_of(graph, norm, *pair)[:1] if e]
        if len(norm.affine) == 2:
            firsts = [v.reshape(norm.groups, -1)[:, 0].astype(np.float32) for v in (norm.scale, norm.bias)]
            places.append([*(SetInput(norm.node.key, i + 1, v) for i, v in enumerate(firsts)),
                           *(RemoveNode(n.key, 1 - slot) for n, slot in norm.affine)])
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Scale per group for scale per channel", "VS", detect, propose, inject)
