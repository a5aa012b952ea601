"""Colour channels in the wrong order.

*What goes wrong*
The source was trained on RGB images and the target gets BGR (OpenCV's order), or the other way round; or the first
layer's weights were stored in the other order.

*How it shows*
Many labels survive, colourful images fail; on gray images both agree. The target's first linear layer answers like the
source's as soon as the channels are exchanged.

*Repair*
Read the images in the other order (configuration), or Gather the channels at the target's input, remove a superfluous
Gather, or reorder the input channels of the first weights.

*When not to apply*
One channel, or a channel order that both the input and the first layer have changed: a NO-OP.

*Seen in*
mmdeploy#421
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.constants import concrete, constant
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputplaces import Place, inserted, places
from fetafix.ir import Graph

CODE = "pp-bgr"


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that reorder channels."""
    for found in maps(site) if not site.healed(site.error) else ():
        if found.reordered:
            sure = 0.97 if not found.scaled and not found.swapped else 0.94
            yield Suspicion(CODE, reader(site, found), None, sure, evidence(found), describe(found), found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Reverse the channels at an image input, by a Gather or in the first convolution's weights."""
    able = [p for p in places(graph) if p.axis is not None and p.channels in (3, 4)]
    if not able:
        return None
    place = able[int(rng.integers(len(able)))]
    weights = _reversed_weights(graph, place)
    if weights and rng.random() < 0.5:
        return weights
    order = np.arange(place.channels)[::-1].astype(np.int64)
    return inserted(graph, place, [("Gather", {"axis": place.axis or 0}, order)])


def _reversed_weights(graph: Graph, place: Place) -> list[Edit] | None:
    readers = graph.consumers.get(place.name, ())
    node = readers[0][0] if len(readers) == 1 else None
    weight = constant(graph, node, 1) if node is not None and node.op == "Conv" else None
    if node is None or weight is None or weight.shape[1] != place.channels or not concrete(graph, place.name):
        return None
    return [ed.SetInput(node.key, 1, np.ascontiguousarray(weight[:, ::-1]))]


FAULT = FaultType(CODE, "Colour channels in the wrong order", "PP", detect, propose, inject, scope="both")
