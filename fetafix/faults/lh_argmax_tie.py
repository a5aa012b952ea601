"""ArgMax or ArgMin takes the last of equal elements instead of the first, or the other way round.

*What goes wrong*
The attribute select_last_index is dropped, or a framework breaks ties its own way.

*How it shows*
Only where elements are equal: integer, quantised, saturated or padded values.

*Repair*
Take over select_last_index.

*When not to apply*
NO-OP: no ties occur. The order in which TopK lists equal elements is not told by any attribute.

*Seen in*
onnx PR#2461
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import version
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-argmax-tie"
_OPS, _NAME = ("ArgMax", "ArgMin"), "select_last_index"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins that break ties differently."""
    for setting in settings(segment):
        if setting.target.op in _OPS and setting.target.op == setting.source.op and _NAME in setting.values:
            yield setting_claim(CODE, segment, setting, [_NAME])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's rule."""
    return setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The attribute is turned; what becomes the default is left out."""
    places = [n for n in graph.nodes if n.op in _OPS and version(graph, n) >= 12]
    if not places:
        return None
    node = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, _NAME, None if node.attrs.get(_NAME) else 1)]


FAULT = FaultType(CODE, "Ties go to another index", "LH", detect, propose, inject)
