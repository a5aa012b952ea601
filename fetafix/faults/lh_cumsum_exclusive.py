"""A CumSum counts its own element, or does not; or it runs from the other end.

*What goes wrong*
The attributes `exclusive` and `reverse` are dropped or misread: positions are off by one, or counted from the end.

*How it shows*
The sums are shifted by one place; where they index a table of positions, every embedding is its neighbour's.

*Repair*
Take over the source's attributes.

*When not to apply*
NO-OP: an exclusive sum of what another operator shifts back; a sum over one element that is zero.

*Seen in*
rten PR#1414
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-cumsum-exclusive"
_NAMES = ("exclusive", "reverse")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """CumSum twins that differ."""
    for setting in settings(segment):
        if setting.target.op == setting.source.op == "CumSum" and set(_NAMES) & set(setting.values):
            yield setting_claim(CODE, segment, setting, setting.helpful(segment, _NAMES))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's attributes."""
    return setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One of the two attributes is turned; what becomes the default is left out."""
    places = [n for n in graph.nodes if n.op == "CumSum" and not n.domain]
    if not places:
        return None
    node = places[int(rng.integers(len(places)))]
    name = _NAMES[int(rng.integers(4) == 0)]
    return [SetAttribute(node.key, name, None if node.attrs.get(name) else 1)]


FAULT = FaultType(CODE, "CumSum counts its own element", "LH", detect, propose, inject)
