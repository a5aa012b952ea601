"""A layout was guessed from sizes: channels of the same number as rows or columns were taken for these.

*What goes wrong*
A converter moves channels by comparing sizes. Where C equals H or W the comparison fits twice, and the Transpose that
it writes, keeps or leaves out turns the map so that the channels lie where the rows or columns should.

*How it shows*
Every shape is right. One Transpose between dimensions of equal size, removed, corrected or inserted, heals the segment,
and the wrong permutation moves the channel axis.

*Repair*
Remove the Transpose, correct its permutation, or insert the missing one.

*When not to apply*
The channels stay in their place: only rows and columns change places (tss-transpose). NO-OP: the dimensions are 1.

*Seen in*
onnx2tf#125, onnx2tf#418
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.graph.transposes import healing, wrong_turns
from fetafix.ir import Graph

CODE = "tss-equal-dims"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """The one changed Transpose that heals, where it brings the channels back to their place."""
    turn = healing(segment)
    if turn is not None and turn.crossed:
        yield Suspicion(CODE, turn.node, segment.goal.source, 0.94, {"error_after": turn.error},
                        f"{turn.node} {turn.what}: the channels were taken for a dimension of their size", turn.edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The Transpose removed, corrected or inserted."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Transpose that mixes up channels and a dimension of their size is inserted, or one is removed or altered."""
    places = wrong_turns(graph, crossed=True)
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Layout guessed from equal sizes", "TSS", detect, propose, inject)
