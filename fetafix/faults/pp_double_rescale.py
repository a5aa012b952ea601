"""A rescaling of pixels built into one model only: applied twice, or not at all.

*What goes wrong*
The source divides by 255 in its own first layer (Keras's Rescaling), and the code around the target does so too, or the
converter drops the layer; or the other way round.

*How it shows*
At the input of one model stand Mul, Div or Sub by 1/255 or 1/127.5 that the other lacks, and exactly that map makes the
target's first linear layer answer like the source's. Often one class wins always, since all inputs are about 0.

*Repair*
The scale and offset in the configuration; or the superfluous nodes removed, the missing ones inserted.

*When not to apply*
Both models have the layer and its constants differ, or neither has it: the range of what they are fed is another
(pp-range). The scale is folded into the first weights: a NO-OP.

*Seen in*
tensorflow#48412
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputkind import RESCALINGS, kind, rescaling
from fetafix.graph.inputnodes import Step, baked
from fetafix.graph.inputplaces import New, Place, inserted, places
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "pp-double-rescale"
_CLOSE = 1e-3


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that are a rescaling which one model only has at its input."""
    for found in maps(site) if not site.healed(site.error) else ():
        if kind(site, found) == "rescaled":
            sure = 0.97 if not found.reordered and not found.swapped else 0.93
            how = rescaling(site, found)
            text = f"a rescaling of pixels is {how} in the target: {describe(found)}"
            yield Suspicion(CODE, reader(site, found), None, sure, {**evidence(found), "rescaling": how}, text, found)
    if not site.healed(site.error) and not maps(site):
        yield from _in_the_way(site)


def _in_the_way(site: Any) -> Iterator[Suspicion]:
    """A rescaling in the target alone, before a layer that is not linear: it is tried without."""
    graph = site.full if isinstance(site, Segment) else site.target
    if any(_existing(site.source, place) for place in places(site.source)):
        return
    for place in places(graph):
        edits: list[Edit] = [ed.RemoveNode(s.node.key, s.slot) for s in _existing(graph, place) if s.node is not None]
        if edits and site.healed(site.trial(edits)):
            key = graph.consumers[place.name][0][0].key
            yield Suspicion(CODE, key, None, 0.97, {"input": place.name, "rescaling": "superfluous"},
                            f"the target rescales input {place.name!r}, the source does not", edits)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from [suspicion.data] if isinstance(suspicion.data, list) else fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The rescaling at an image input dropped, or one put before everything."""
    able = places(graph)
    if not able:
        return None
    place = able[int(rng.integers(len(able)))]
    existing = _existing(graph, place)
    if existing and rng.random() < 0.5:
        return [ed.RemoveNode(s.node.key, s.slot) for s in existing if s.node is not None]
    dtype = place.dtype
    ways: tuple[list[New], ...] = (
        [("Mul", {}, np.asarray(1 / 255, dtype))], [("Div", {}, np.asarray(255, dtype))],
        [("Div", {}, np.asarray(127.5, dtype)), ("Sub", {}, np.asarray(1, dtype))],
    )  # fmt: skip
    return inserted(graph, place, ways[int(rng.integers(len(ways)))])


def _existing(graph: Graph, place: Place) -> list[Step]:
    """The step at an input that divides pixels, with the shift behind it."""
    steps = baked(graph, place.name, place.axis, place.channels, place.rank)
    for step, after in zip_longest(steps, steps[1:]):
        gain = float(step.gain[0])
        if np.ptp(step.gain) == 0 and any(abs(gain - g) < _CLOSE * g for g, _ in RESCALINGS):
            shift = after if after is not None and after.shifts and np.ptp(after.bias) == 0 else None
            return [step] if shift is None else [shift, step]
    return []


FAULT = FaultType(CODE, "Rescaling of pixels doubled or missing", "PP", detect, propose, inject, scope="both")
