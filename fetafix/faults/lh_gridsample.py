"""A GridSample or AffineGrid reads its grid by another rule.

*What goes wrong*
align_corners, padding_mode or the mode of interpolation is dropped: torch's and ONNX's defaults (0, zeros, linear)
hold, or those of a hand-written replacement.

*How it shows*
align_corners: a small displacement everywhere, growing to the border. padding_mode: only where the grid leaves the
image. The attributes of the twins differ.

*Repair*
Take over the source's attributes.

*When not to apply*
"bilinear" and "linear", "bicubic" and "cubic" are one mode by two operator sets' names. padding_mode where the grid
stays inside: a NO-OP.

*Seen in*
onnx2tf#274
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical
from fetafix.graph.compare import assign
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-gridsample"
_OPS = ("GridSample", "AffineGrid")
_NAMES = ("align_corners", "padding_mode", "mode")
_WRONG = {"align_corners": (0, 1), "padding_mode": ("zeros", "border"), "mode": ("linear", "nearest")}


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other attributes."""
    for setting in settings(segment):
        if setting.target.op == setting.source.op and setting.target.op in _OPS:
            yield setting_claim(CODE, segment, setting, setting.helpful(segment, _NAMES))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's attributes, the most helpful one first."""
    return setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One attribute becomes another."""
    places = []
    for node in graph.nodes:
        if node.op in _OPS and not node.domain:
            values = canonical(node, graph)
            places += [(node, {n: v}) for n, options in _WRONG.items() if n in values for v in options
                       if v != values[n]]
    if not places:
        return None
    node, wanted = places[int(rng.integers(len(places)))]
    return assign(node, graph, wanted)


FAULT = FaultType(CODE, "Grid read by another rule", "LH", detect, propose, inject)
