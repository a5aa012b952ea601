"""A Transpose is spurious, missing or has a wrong permutation.

*What goes wrong*
A converter leaves a Transpose of its layout conversion behind, removes one that was needed, or merges two wrongly.
Where dimensions are equal no shape tells.

*How it shows*
The segment's value is the source's, transposed; or removing, changing or inserting one Transpose heals the segment.

*Repair*
Remove the Transpose, correct its permutation, or insert the missing one.

*When not to apply*
The net permutation between anchors is the layout difference of the two models. Channels changed places with a dimension
of their own size (tss-equal-dims). NO-OP: only axes of size 1 move, or the map is constant along those that move.

*Seen in*
onnx#2446, onnxmltools#719
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.graph.transposes import healing, wrong_turns
from fetafix.ir import Graph

CODE = "tss-transpose"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """The one changed Transpose that heals, where it leaves the channels in their place."""
    turn = healing(segment)
    if turn is not None and not turn.crossed:
        yield Suspicion(CODE, turn.node, segment.goal.source, 0.94, {"error_after": turn.error},
                        f"{turn.node} {turn.what}", turn.edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The Transpose removed, corrected or inserted."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Transpose between equal dimensions is inserted, removed, or gets another permutation of the same shape."""
    places = wrong_turns(graph, crossed=False)
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Transpose spurious, missing or wrong", "TSS", detect, propose, inject)
