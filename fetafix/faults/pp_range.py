"""The input's values in another range: 0…255, 0…1 or −1…1.

*What goes wrong*
A model trained on one range gets another: in the code that prepares images, or since the constant of a rescaling that
both models have built in is another one.

*How it shows*
The inputs' spread differs by about 255 or 127.5; often one class wins always. The target's first linear layer answers
like the source's as soon as all channels are scaled and shifted alike.

*Repair*
The right scale and offset in the configuration; or the baked Mul, Add, Sub or Div corrected, removed or inserted.

*When not to apply*
The scale is folded into the first weights: the layer then answers the same, a NO-OP. A rescaling stands at the input of
one model only (pp-double-rescale).

*Seen in*
keras#13293; Paddle2ONNX#666
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputkind import kind
from fetafix.graph.inputplaces import New, inserted, places, retuned
from fetafix.ir import Graph

CODE = "pp-range"
_RANGES = ((255.0, 0.0), (2.0, -1.0), (127.5, 127.5), (0.5, 0.5))
_OTHER = (2.0, 0.5, 255.0)


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that scale all channels alike."""
    for found in maps(site) if not site.healed(site.error) else ():
        if kind(site, found) == "range":
            sure = (0.96 if not found.reordered and not found.swapped else 0.92) + (0.02 if found.naming else 0.0)
            yield Suspicion(CODE, reader(site, found), None, sure, evidence(found), describe(found), found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The constant of a rescaling replaced, or the values at an image input brought to another range."""
    able = places(graph)
    if not able:
        return None
    place = able[int(rng.integers(len(able)))]
    gain, bias = _RANGES[int(rng.integers(len(_RANGES)))]
    other = float(rng.choice(_OTHER))
    existing = retuned(graph, place, rng, lambda c: None if c.size > 1 else c * c.dtype.type(other))
    if existing and rng.random() < 0.5:
        return existing
    dtype = place.dtype
    nodes: list[New] = [("Mul", {}, np.asarray(gain, dtype))]
    return inserted(graph, place, nodes if bias == 0 else [*nodes, ("Add", {}, np.asarray(bias, dtype))])


FAULT = FaultType(CODE, "Input values in another range", "PP", detect, propose, inject, scope="both")
