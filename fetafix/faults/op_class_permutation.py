"""The classes of the output in another order.

*What goes wrong*
The rows of the last layer are stored in another order: that of a label file sorted as text, of a checkpoint's
dictionary, of another framework's class list.

*How it shows*
Each predicted class differs, and always in the same way: the target's classes are the source's by a one-to-one map that
holds for all samples. Sorted scores agree.

*Repair*
Put the rows of the last layer's weight and bias in the source's order, or remove the Gather that reorders, or gather
the classes where there is no such layer.

*When not to apply*
The order is a shift (op-class-offset). The labels are read with the target's own list: then both are right together,
and the reordered file needs that list no longer.

*Seen in*
alphabetical class folders of ImageNet against the order of a label map
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.classes import gathered, head, moved, shifts
from fetafix.graph.constants import held
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Array, Graph

CODE = "op-class-permutation"
_FEWEST, _MOST = 3, 8192


def order_of(value: Array, wanted: Array, axis: int) -> Array | None:
    """The order in which the classes of `value` are those of `wanted`; None where it is no one-to-one map."""
    ours, theirs = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1).astype(np.float64) for v in (value, wanted))
    if min(ours.min(), theirs.min()) > 0:  # probabilities: most are near 0, where only their ratios tell
        ours, theirs = np.log(ours), np.log(theirs)
    distance = (ours**2).sum(1)[None, :] + (theirs**2).sum(1)[:, None] - 2 * theirs @ ours.T
    order: Array = distance.argmin(1)
    return order if len(np.unique(order)) == len(order) else None


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Looks for the one order of the classes in which the output is the source's."""
    value, wanted = segment.actual, segment.expected
    if segment.healed(segment.error) or value is None or value.shape != wanted.shape or value.ndim < 2:
        return
    if not head(segment.full, segment.goal.target) or not np.isfinite(value).all():
        return
    for axis in dict.fromkeys((value.ndim - 1, 1)):
        count = value.shape[axis]
        order = order_of(value, wanted, axis) if _FEWEST <= count <= _MOST else None
        if order is None or any(np.array_equal(order, np.roll(np.arange(count), k)) for k in (0, *shifts(count))):
            continue
        error = relative_error(np.take(value, order, axis), wanted)
        if segment.healed(error) or error < 0.02 * min(segment.error, 1.0):
            away = int(np.count_nonzero(order != np.arange(count)))
            yield Suspicion(
                CODE, segment.goal.target, segment.goal.source, 0.99 if segment.healed(error) else 0.9,
                {"classes": count, "out_of_place": away, "order": order[:16].tolist(), "error_after": error},
                f"{away} of the target's {count} classes stand in another place, always the same", (order, axis))


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Remove what reorders; put the last layer's rows in order; else gather the classes."""
    graph, (order, axis), tensor = segment.full, suspicion.data, segment.goal.target
    for node in reversed(segment.target.nodes):
        if node.op == "Gather" and "Gather" not in {n.op for n in segment.source.nodes}:
            yield [ed.RemoveNode(node.key)]
    rows = moved(graph, tensor, order)
    if rows:
        yield rows
    if not rows or not isinstance(rows[0], ed.SetInput) or not held(segment.source, rows[0].value):
        yield gathered(graph, tensor, order, axis)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another order of the classes at an output, in the last layer's rows or by a Gather behind it."""
    ways: list[list[Edit]] = []
    for output in graph.output_names:
        dims, maker = graph.shapes.get(output), graph.producers.get(output)
        count = dims[-1] if dims else None
        if maker is None or dims is None or len(dims) != 2 or not isinstance(count, int) or count < 4:
            continue
        order = rng.permutation(count)
        if any(np.array_equal(order, np.roll(np.arange(count), k)) for k in (0, *shifts(count))):
            continue
        ways.append(gathered(graph, output, order, 1))
        rows = moved(graph, output, order)
        ways.extend([rows, rows] if rows else [])
    return ways[int(rng.integers(len(ways)))] if ways else None


FAULT = FaultType(CODE, "Classes in another order", "OP", detect, propose, inject)
