"""Per-channel scales of a weight belong to another axis, or stand in another order.

*What goes wrong*
A converter permutes a quantised weight without its scales, keeps the number of the axis although the layout changed, or
reads the vector of scales rotated.

*How it shows*
Some channels of one layer are scaled. The codes themselves are the source's weight: with the scale that fits each slice
best no element is off by more than rounding. An axis that does not fit shows only where dimensions are equal.

*Repair*
The axis that fits, or the stored scales in the order that fits; the codes stay.

*When not to apply*
The codes do not make the source's weight under any scales.

*Seen in*
TFLite's quantized_dimension carried over as ONNX's axis after a change of layout (common knowledge, no thread found)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.coded import Coded, coded, weights_in_codes
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph

CODE = "qp-scale-axis"
_LIKE = 0.03  # a fitted scale is off by the rounding of its slice
_TELLING = 1.3  # scales closer than this ratio make hardly a difference


def _matches(fitted: Array, stored: Array) -> bool:
    return fitted.shape == stored.shape and bool(np.all(np.abs(fitted - stored) <= _LIKE * np.abs(stored)))


def _ways(found: Coded) -> Iterator[tuple[str, list[Edit]]]:
    """What heals: another axis, the scales in another order, other scales."""
    stored = found.grid.scale.reshape(-1)
    rank, own = found.codes.ndim, found.grid.axis
    if stored.size < 2 or own is None:
        return
    for axis in sorted(range(min(rank, 2)), key=lambda a: a != own % rank):
        fitted = found.fit(axis) if found.codes.shape[axis] > 1 else None
        if fitted is None:
            continue
        move: list[Edit] = [] if axis == own % rank else [SetAttribute(found.node.key, "axis", axis)]
        if move and _matches(fitted, stored):
            yield f"the scales are those of axis {axis}, not of axis {own % rank}", move
        elif fitted.size == stored.size:
            order = np.empty(stored.size, np.int64)
            order[np.argsort(fitted, kind="stable")] = np.argsort(stored, kind="stable")
            if _matches(fitted, stored[order]):
                yield "the scales stand in another order than the slices", [*move, _scales(found, stored[order])]
            else:
                yield "the scales belong to other codes", [*move, _scales(found, fitted)]


def _scales(found: Coded, scales: Array) -> Edit:
    return SetInput(found.node.key, 1, scales.astype(found.grid.scale.dtype).reshape(found.grid.scale.shape))


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Weights whose codes are the source's under other scales."""
    for found in coded(segment):
        for how, edits in _ways(found):
            p = found.parameter
            sure = 0.9 if "other codes" in how else 0.98
            yield Suspicion(CODE, p.node.key, p.twin.key, sure, {"axis": found.grid.axis},
                            f"the codes are the source's weight, but {how}", edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The scales or the axis that fit."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The axis of a square weight exchanged, or the scales of a weight rolled."""
    places: list[list[Edit]] = []
    for node, _, grid, codes in weights_in_codes(graph):
        scale = grid.scale.reshape(-1)
        if scale.size < 2 or float(np.max(scale)) < _TELLING * max(float(np.min(scale)), 1e-30):
            continue
        places.append([SetInput(node.key, 1, np.roll(grid.scale, 1 + int(rng.integers(scale.size - 1))))])
        if grid.axis in (0, 1) and codes.shape[0] == codes.shape[1] and not np.any(grid.zero_point):
            places.append([SetAttribute(node.key, "axis", 1 - grid.axis)])
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Scales on the wrong axis or in the wrong order", "QP", detect, propose, inject)
