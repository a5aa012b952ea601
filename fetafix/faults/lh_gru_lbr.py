"""A GRU applies its reset gate before the product with the recurrence weights, or behind it.

*What goes wrong*
ONNX's linear_before_reset is 0 by default (the paper's GRU: r ⊙ h first), torch and Keras (reset_after) compute the
product first. A converter forgets to write the attribute.

*How it shows*
The error grows with the length of the sequence; at the first step, from a zero state, only the recurrence bias shows.

*Repair*
Take over linear_before_reset.

*When not to apply*
NO-OP: a single step from a zero state without recurrence bias of the hidden gate.

*Seen in*
onnxscript#2852
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-gru-lbr"
_NAME = "linear_before_reset"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """GRU twins that differ in the attribute."""
    for setting in settings(segment):
        if setting.target.op == "GRU" and _NAME in setting.values:
            yield setting_claim(CODE, segment, setting, [_NAME])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's value."""
    return setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The attribute is turned; what becomes the default is left out, as a converter would."""
    places = [n for n in graph.nodes if n.op == "GRU" and not n.domain]
    if not places:
        return None
    node = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, _NAME, None if node.attrs.get(_NAME) else 1)]


FAULT = FaultType(CODE, "GRU resets before the product, or behind it", "LH", detect, propose, inject)
