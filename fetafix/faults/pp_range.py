"""The input's values in another range: 0…255, 0…1 or −1…1.

*What goes wrong*
A model trained on one range gets another; a Rescaling layer that the source has built in is lost, doubled or wrong in
the target; the images are divided by 255 twice.

*How it shows*
The inputs' spread differs by about 255 or 127.5; often one class wins always. The target's first linear layer answers
like the source's as soon as all channels are scaled and shifted alike.

*Repair*
The right scale and offset in the configuration; or the baked Mul, Add, Sub or Div corrected, removed or inserted.

*When not to apply*
The scale is folded into the first weights: the layer then answers the same, a NO-OP.

*Seen in*
keras#13293; Paddle2ONNX#666; tensorflow#48412 (double rescaling)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputplaces import New, inserted, places, retuned
from fetafix.ir import Graph

CODE = "pp-range"
_RANGES = ((1 / 255, 0.0), (255.0, 0.0), (2.0, -1.0), (1 / 127.5, -1.0), (127.5, 127.5), (0.5, 0.5))


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that scale all channels alike."""
    for found in maps(site) if not site.healed(site.error) else ():
        if found.scaled and not found.by_channel:
            sure = (0.96 if not found.reordered and not found.swapped else 0.92) + (0.02 if found.naming else 0.0)
            yield Suspicion(CODE, reader(site, found), None, sure, evidence(found), describe(found), found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A rescaling too many at an image input, or the constant of the existing one replaced."""
    able = places(graph)
    if not able:
        return None
    place = able[int(rng.integers(len(able)))]
    gain, bias = _RANGES[int(rng.integers(len(_RANGES)))]
    existing = retuned(graph, place, rng, lambda c: None if c.size > 1 else c * c.dtype.type(gain))
    if existing and rng.random() < 0.5:
        return existing
    dtype = place.dtype
    nodes: list[New] = [("Mul", {}, np.asarray(gain, dtype))]
    return inserted(graph, place, nodes if bias == 0 else [*nodes, ("Add", {}, np.asarray(bias, dtype))])


FAULT = FaultType(CODE, "Input values in another range", "PP", detect, propose, inject, scope="both")
