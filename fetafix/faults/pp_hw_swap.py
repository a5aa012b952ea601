"""Height and width of the images exchanged.

*What goes wrong*
A transposition meant to move channels only, such as (0, 3, 2, 1) for (0, 3, 1, 2), mirrors every image at its
diagonal, in the code that prepares images or in a Transpose of the graph.

*How it shows*
Nothing fails on square images; both models agree on images that equal their own transposition. The target's first
linear layer answers like the source's as soon as height and width are exchanged.

*Repair*
The transposition switched in the configuration; or the graph's Transpose corrected, removed or inserted.

*When not to apply*
Images of unequal sides, where the models would refuse each other's shape.

*Seen in*
image preparation by `transpose(0, 3, 2, 1)`; the artifact of arXiv 2312.15101
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.constants import concrete
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputplaces import inserted, places
from fetafix.ir import Graph

CODE = "pp-hw-swap"


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that exchange height and width."""
    for found in maps(site) if not site.healed(site.error) else ():
        if found.swapped:
            sure = 0.98 if not found.scaled and not found.reordered else 0.95
            yield Suspicion(CODE, reader(site, found), None, sure, evidence(found), describe(found), found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Exchange height and width of square images, by a Transpose more or by the wrong one."""
    for place in places(graph):
        dims = concrete(graph, place.name)
        if place.spatial is None or dims is None or dims[place.spatial[0]] != dims[place.spatial[1]]:
            continue
        readers = graph.consumers.get(place.name, ())
        first = readers[0][0] if len(readers) == 1 else None
        a, b = place.spatial
        if first is not None and first.op == "Transpose" and rng.random() < 0.7:
            perm = tuple(first.attrs.get("perm", ()))  # type: ignore[arg-type]
            return [ed.SetAttribute(first.key, "perm", tuple(b if p == a else a if p == b else p for p in perm))]
        swap = tuple(b if i == a else a if i == b else i for i in range(place.rank))
        return inserted(graph, place, [("Transpose", {"perm": swap}, None)])
    return None


FAULT = FaultType(CODE, "Height and width exchanged", "PP", detect, propose, inject, scope="both")
