"""An assignment into part of a tensor is lost.

*What goes wrong*
x[:, 1:3] = y becomes a ScatterND or ScatterElements; tracing loses it where the tensor is changed in place, and what
reads it later gets it as it was.

*How it shows*
The source has a Scatter operator more; the part that it writes is unchanged in the target.

*Repair*
Put the assignment back, with what it writes where the target does not compute that either.

*When not to apply*
The assignment is spelled by Slice and Concat, or by Where: the same function.

*Seen in*
pytorch#19948, pytorch#80271, pytorch#95050
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, RemoveNode
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import best, counterparts, in_target_terms, put_behind, sureness, twin_of
from fetafix.graph.graft import graft
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "cg-inplace-lost"
_OPS = frozenset({"ScatterND", "ScatterElements", "Scatter", "TensorScatter"})


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Scatter operators of the source that the target's segment lacks."""
    if segment.healed(segment.error):
        return
    ours, theirs = ([n for n in g.nodes if n.op in _OPS] for g in (segment.target, segment.source))
    if len(theirs) <= len(ours):
        return
    for twin in theirs:
        error, found = best(segment, list(_restored(segment, twin)))
        if found and error < segment.error:
            yield Suspicion(CODE, segment.goal.target, twin.key, sureness(segment, error, 0.96),
                            {"missing": twin.op, "error_after": error},
                            f"the source writes into {twin.input(0)} ({twin.label}), the target does not", found)


def _restored(segment: Segment, twin: Node) -> Iterator[list[Edit]]:
    data = twin_of(segment, twin.input(0))
    names = {t: w.tensor for t in twin.inputs if (w := twin_of(segment, t)) is not None}
    if data is not None and data.perm is None:
        near = segment.full.producers.get(data.tensor)
        made = in_target_terms(segment, twin, names, None, segment.full, near)
        if made is not None:
            yield from put_behind(segment, data.tensor, *made)
    edit = graft(segment, {*counterparts(segment), *(a.source for a in segment.anchors)} - {segment.goal.source})
    if edit is not None:
        yield [edit]


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The assignment alone; the source's nodes about it."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Scatter operator is bypassed: its readers get the tensor as it was."""
    places = [n for n in graph.nodes
              if n.op in _OPS and not graph.fixed(n.input(0)) and n.key not in graph.output_names]
    return [RemoveNode(places[int(rng.integers(len(places)))].key, 0)] if places else None


FAULT = FaultType(CODE, "Assignment in place lost", "CG", detect, propose, inject)
