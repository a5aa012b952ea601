"""A MaxPool is surrounded by zeros instead of −∞, or the other way round.

*What goes wrong*
A framework whose MaxPool has no pads gets a Pad in front, which fills in zeros: they win over negative values. Or a
meant Pad of zeros is merged into the pool's own padding.

*How it shows*
Only border pixels, and only where the window holds no positive value. Pad and pool are one unit: one side has a Pad
with a constant in front of its MaxPool, the other none, or one of −∞.

*Repair*
Let the Pad fill in what the source's padding does; or merge the Pad into the pool, or put it back.

*When not to apply*
NO-OP behind Relu, Sigmoid and whatever else is never negative.

*Seen in*
onnx-to-keras#31
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, front_pad
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.padding import LOWEST, filled, inserted, merged, taken_in, unmerged
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Graph, Node

CODE = "lh-maxpool-zero-pad"
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Abs", "HardSigmoid", "Softplus", "Exp", "Sqrt"})


def detect(segment: Segment) -> Iterator[Suspicion]:
    """MaxPool twins whose padding fills in something else, where the source's filling helps."""
    if segment.healed(segment.error):
        return
    for target, source in twins(segment):
        if target.op == source.op == "Pad":
            yield from _pads(segment, target, source)
        front = front_pad(target, segment.full) if target.op == source.op == "MaxPool" else None
        if front is None or front.mode != "constant":
            continue
        theirs = front_pad(source, segment.source)
        value = -np.inf if theirs is None else theirs.value
        if max(value, LOWEST) == max(front.value, LOWEST):
            continue
        ways = [[filled(segment.full, front.node, value)]]
        ways += [w for w in [taken_in(segment.full, target, front)] if w and value <= LOWEST]
        yield from _claim(segment, target, source, ways, front.value, value)
    for unit in merged(segment):
        if unit.target.op == "MaxPool" and unit.front.mode == "constant" and unit.front.value > LOWEST:
            ways = unmerged(segment, unit)
            yield from _claim(segment, unit.target, unit.source, ways, -np.inf, unit.front.value)


def _pads(segment: Segment, target: Node, source: Node) -> Iterator[Suspicion]:
    """Two Pads, of which the source's fills in −∞ and the target's a number, for a MaxPool."""
    ours, theirs = canonical(target, segment.full), canonical(source, segment.source)
    readers = segment.full.consumers.get(target.key, ())
    pooled = readers and all(n.op == "MaxPool" for n, _ in readers)
    if pooled and ours["mode"] == theirs["mode"] == "constant" and theirs["value"] <= LOWEST < ours["value"]:
        ways = [[filled(segment.full, target, theirs["value"])]]
        yield from _claim(segment, target, source, ways, ours["value"], theirs["value"])


def _claim(
    segment: Segment, target: Node, source: Node, ways: list[list[Edit]], ours: float, theirs: float
) -> Iterator[Suspicion]:
    error, found = best(segment, ways)
    if found and error < segment.error:
        yield Suspicion(CODE, target.key, source.key, sureness(segment, error, 0.97),
                        {"fill": ours, "source_fill": theirs}, f"padded with {ours:g}, in the source with {theirs:g}",
                        found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's filling, in the Pad; then by the pool itself."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A padded MaxPool gets a Pad of zeros instead of its own padding."""
    places = []
    for node in graph.nodes:
        maker = graph.producers.get(node.input(0))
        pads = canonical(node, graph).get("pads") if node.op == "MaxPool" and len(node.outputs) == 1 else None
        positive = maker is not None and (
            maker.op in _NEVER_NEGATIVE or (maker.op == "Clip" and canonical(maker, graph)["min"] >= 0))
        if pads and any(pads) and not positive:
            places.append((node, pads))
    if not places:
        return None
    node, pads = places[int(rng.integers(len(places)))]
    auto: list[Edit] = [SetAttribute(node.key, "auto_pad", None)] if "auto_pad" in node.attrs else []
    return [inserted(graph, node, pads), *auto, SetAttribute(node.key, "pads", (0,) * len(pads))]


FAULT = FaultType(CODE, "Zeros around a MaxPool", "LH", detect, propose, inject)
