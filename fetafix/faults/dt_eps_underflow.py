"""An epsilon too small for float16.

*What goes wrong*
A conversion to float16 rounds the constant that keeps a division from zero: below 2^-25 nothing is left of it, and
below 6e-5 little of its precision.

*How it shows*
A scalar constant of the target is 0, or off by more than a twentieth, and exactly what float16 makes of the source's.
Where the variance is zero there is NaN or infinity; where it is small the result is off.

*Repair*
Raise the constant to float16's smallest number, 6e-8, where that agrees; else compute the nodes that read it in float32
with the source's epsilon.

*When not to apply*
The constant survives float16, or the operator has its epsilon as an attribute, which stays float32.

*Seen in*
pytorch#86580
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.halfruns import constants, runs, vanished
from fetafix.graph.halves import FLOAT, FLOAT16, SMALLEST, in_single
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "dt-eps-underflow"
_OPS = ("Add", "Max", "Clip")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Small constants that float16 rounded away."""
    for node, slot, twin, ours, theirs in vanished(segment):
        best = min((segment.trial(e) for e in _candidates(segment, node, slot)), default=np.inf)
        sure = 0.98 if segment.healed(best) else 0.7 if best < 0.5 * segment.error else 0.4
        yield Suspicion(CODE, node.key, twin, sure, {"epsilon": ours, "source_epsilon": theirs},
                        f"float16 makes {ours:g} of the epsilon {theirs:g}", (node, slot))


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The smallest number of float16; the node and those behind it in float32 with the source's epsilon."""
    yield from _candidates(segment, *suspicion.data)


def _candidates(segment: Segment, node: Node, slot: int) -> Iterator[list[Edit]]:
    shape = segment.target.initializers[node.inputs[slot]].shape
    yield [SetInput(node.key, slot, np.full(shape, SMALLEST, np.float16))]
    for keys in runs(segment.full, segment.target.nodes, node):
        yield in_single(segment.full, keys, constants(segment))


def _places(graph: Graph) -> Iterator[tuple[Node, int]]:
    """Nodes that add a small constant, or bound by one, to keep something from zero."""
    for node in graph.nodes:
        slot = next((i for i, t in enumerate(node.inputs[:2]) if t in graph.initializers), None)
        if node.op not in _OPS or slot is None or len(node.inputs) < 2 or node.key in graph.output_names:
            continue
        value = graph.initializers[node.inputs[slot]]
        if value.dtype == np.float32 and value.size == 1 and 0 < float(value.flat[0]) < 2.0**-26:
            yield node, slot


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The node with the epsilon becomes float16, Casts around it."""
    places = list(_places(graph))
    if not places:
        return None
    node, slot = places[int(rng.integers(len(places)))]
    live = node.inputs[1 - slot]
    before, one = like(graph, "Cast", graph.producers.get(live))
    after, two = like(graph, "Cast", node)
    value = graph.initializers[node.inputs[slot]].astype(np.float16)
    return [
        InsertNode(live, Node("Cast", (live,), (one,), {"to": FLOAT16}, before), {}, ((node.key, 1 - slot),)),
        SetInput(node.key, slot, value),
        InsertNode(node.key, Node("Cast", (node.key,), (two,), {"to": FLOAT}, after)),
    ]


FAULT = FaultType(CODE, "Epsilon vanished in float16", "DT", detect, propose, inject)
