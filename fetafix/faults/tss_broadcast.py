"""A constant is spread along the wrong axis.

*What goes wrong*
A vector per channel loses the ones of its shape, or gets them at the wrong place: PRelu slopes (C, 1, 1) become (C,)
and are spread along the width; the scale or shift of a normalisation written as Mul and Add likewise.

*How it shows*
The constant holds the source's values in another shape. Only where channels and rows or columns are of equal number
does it run at all. For a PRelu negative values alone are wrong.

*Repair*
The target's own values in the shape that spreads them along the right axis.

*When not to apply*
The shapes differ as the layouts do, or by leading ones. NO-OP: all values of the constant are equal.

*Seen in*
PRelu slopes in converters between channels-first and channels-last
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import shape
from fetafix.graph.counterparts import sureness
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

CODE = "tss-broadcast"
_OPS = frozenset({"PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"})
_TELLING = 1e-2


def _shapes(value: Array, dims: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes in which a vector's values spread along one axis of a tensor of shape `dims`, the first axis last."""
    rank = len(dims)
    axes = [i for i in (*range(1, rank), 0) if dims[i] == value.size]
    return [(value.size, *(1,) * (rank - 1 - i)) for i in axes]


def _axis(value: Array, rank: int) -> int | None:
    """The axis along which a constant is spread; None where it is no vector."""
    long = [i for i, d in enumerate(value.shape) if d > 1]
    return rank - value.ndim + long[0] if len(long) == 1 else None


def _constant(node: Node, graph: Graph) -> tuple[int, Array, int] | None:
    """(slot, value, axis) of an operator's one constant, where that is a vector spread along an axis."""
    dims = shape(graph, node.key)
    constants = ((i, graph.constant(node, i)) for i in range(len(node.inputs)))
    held = [(i, c) for i, c in constants if c is not None and c.dtype.kind == "f"]
    if node.op not in _OPS or len(held) != 1 or len(node.inputs) != 2 or dims is None:
        return None
    axis = _axis(held[0][1], len(dims))
    return None if axis is None or axis < 0 else (*held[0], axis)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins whose constants hold the same values, spread along another axis, where the right one heals."""
    if segment.healed(segment.error):
        return
    for target, source in twins(segment):
        ours, theirs = _constant(target, segment.target), _constant(source, segment.source)
        dims = shape(segment.target, target.key)
        if ours is None or theirs is None or dims is None or not close(ours[1].ravel(), theirs[1].ravel()):
            continue
        slot, value, axis = ours
        ways = [SetInput(target.key, slot, value.reshape(s)) for s in _shapes(value, dims) if s != value.shape]
        tried = sorted(((segment.trial([w]), i) for i, w in enumerate(ways)))
        if tried and tried[0][0] < segment.error:
            error, first = tried[0]
            right = _axis(np.asarray(ways[first].value), len(dims))
            yield Suspicion(
                CODE, target.key, source.key, sureness(segment, error, 0.97), {"axis": axis, "right_axis": right},
                f"the constant is spread along axis {axis}, it belongs along axis {right}", [[ways[first]]])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The constant in the shape that helps most."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A vector is spread along another axis of its length, neither the batch nor its own."""
    places = []
    for node in graph.nodes:
        found, dims = _constant(node, graph), shape(graph, node.key)
        if found is None or dims is None or np.ptp(found[1]) <= _TELLING * np.max(np.abs(found[1])):
            continue
        slot, value, axis = found
        made = [value.reshape(s) for s in _shapes(value, dims)]
        places += [SetInput(node.key, slot, v) for v in made if _axis(v, len(dims)) not in (0, axis)]
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Constant spread along the wrong axis", "TSS", detect, propose, inject)
