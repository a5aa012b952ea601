"""The input passes through integers on its way in.

*What goes wrong*
A wrapper, a signature or a converter takes the input for pixels and casts it to uint8 (or another integer type). Values
between 0 and 1 become 0, fractions are cut off, negative ones wrap around; nobody is told.

*How it shows*
Right behind the target's input stands a Cast to an integer type that the source lacks, or the target declares its input
as integers where the source takes floats. Often one class wins always, since the network sees black images.

*Repair*
Take out the Casts; declare the input in the source's type.

*When not to apply*
What is fed are whole numbers in the range of that type: nothing is lost, a NO-OP. Both models cast. A quantised input
carries its own scale (id-int8-range).

*Seen in*
serving wrappers around image classifiers: common knowledge, no thread found
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.casts import INTEGERS, chains, cut_off
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "id-wrapper-dtype"
_FLOAT, _TYPES = 1, (2, 3, 6, 7)  # float32; uint8, int8, int32, int64 of TensorProto.DataType


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Casts through integers right behind the target's inputs, where the source has none and values are lost."""
    if segment.healed(segment.error):
        return
    theirs = {a.source: a.target for a in segment.anchors}
    cast = {theirs[c.input] for c in chains(segment.source) if c.input in theirs}
    for chain in chains(segment.full):
        fed = segment.feeds.get(chain.input)
        if fed is None or chain.input in cast or not cut_off(fed, chain.type):
            continue
        edits = [ed.RemoveNode(n.key) for n in chain.nodes]
        error = segment.trial(edits)
        sure = 0.98 if segment.healed(error) else 0.7 if error < 0.5 * segment.error else 0.4
        lost = float(np.mean(fed != np.trunc(fed)))
        yield Suspicion(
            CODE, chain.nodes[0].key, None, sure,
            {"input": chain.input, "type": INTEGERS[chain.type], "fractions": round(lost, 4), "error_after": error},
            f"input {chain.input!r} passes through {INTEGERS[chain.type]}, which cuts off its fractions", edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Take out the Casts."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Cast to an integer type and back at a float input."""
    able = [v.name for v in graph.inputs if v.dtype == np.float32 and graph.consumers.get(v.name)
            and not any(c.input == v.name for c in chains(graph))]
    if not able:
        return None
    name = able[int(rng.integers(len(able)))]
    near = graph.consumers[name][0][0]
    first, whole = like(graph, "Cast", near)
    there = ed.InsertNode(name, Node("Cast", (name,), (whole,), {"to": int(rng.choice(_TYPES))}, first))
    second, back = like(there.apply(graph), "Cast", near)
    return [there, ed.InsertNode(whole, Node("Cast", (whole,), (back,), {"to": _FLOAT}, second))]


FAULT = FaultType(CODE, "Input cut off by an integer type", "ID", detect, propose, inject)
