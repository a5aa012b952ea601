"""Softmax at the output missing, or applied twice.

*What goes wrong*
The source ends in probabilities and the target in logits, or the other way round; or a wrapper applies Softmax to
what is already a probability.

*How it shows*
Rows sum to 1 on one side only; top-1 labels are unchanged. A double softmax is flat: over 1000 classes it never
exceeds 0.00271. One output is the (log-)softmax of the other.

*Repair*
Append the Softmax, or remove the one too many.

*When not to apply*
Both sides normalise, along the same axis (another axis: lh-softmax-axis).

*Seen in*
MMdnn#684
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.classes import head, softmax
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Graph, Node

CODE = "op-softmax"
_OPS = ("Softmax", "LogSoftmax")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Compares the output with the softmax of the other side's output, along every axis."""
    value, wanted = segment.actual, segment.expected
    if segment.healed(segment.error) or value is None or value.shape != wanted.shape or not 2 <= value.ndim <= 4:
        return
    if not head(segment.full, segment.goal.target):
        return
    noise = max(20 * segment.tolerance, 1e-4)
    for axis in sorted(range(1, value.ndim), key=lambda a: -value.shape[a]):
        if value.shape[axis] < 2:
            continue
        for op in _OPS:
            if relative_error(softmax(value, axis, op), wanted) <= noise:
                yield Suspicion(
                    CODE, segment.goal.target, segment.goal.source, 0.97, {"missing": op, "axis": axis},
                    f"the source's output is the {op} of the target's", (op, axis))
            extra = [n for n in segment.target.nodes[::-1] if n.op == op]
            if extra and relative_error(value, softmax(wanted, axis, op)) <= noise:
                yield Suspicion(
                    CODE, extra[0].key, segment.goal.source, 0.97, {"extra": op, "axis": axis},
                    f"the target applies {op} to what is the source's output already", extra[0].key)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Append or remove."""
    if isinstance(suspicion.data, str):
        yield [ed.RemoveNode(suspicion.data)]
        return
    op, axis = suspicion.data
    yield [_appended(segment.full, segment.goal.target, op, axis)]


def _appended(graph: Graph, tensor: str, op: str, axis: int) -> Edit:
    name, out = like(graph, op, graph.producers.get(tensor))
    return ed.InsertNode(tensor, Node(op, (tensor,), (out,), {"axis": axis}, name))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Drop the Softmax at an output, double it, or append one to logits."""
    ways: list[list[Edit]] = []
    for name in graph.output_names:
        maker, dims = graph.producers.get(name), graph.shapes.get(name)
        if maker is None or dims is None or len(dims) != 2 or not isinstance(dims[1], int) or dims[1] < 2:
            continue
        if maker.op in _OPS and maker.input(0) in graph.producers:
            ways.append([ed.RemoveNode(maker.key)])
        ways.append([_appended(graph, name, "Softmax", 1)])
    return ways[int(rng.integers(len(ways)))] if ways else None


FAULT = FaultType(CODE, "Softmax missing or doubled at the output", "OP", detect, propose, inject)
