"""The zero point of quantised numbers is off.

*What goes wrong*
Codes of int8 are read as uint8 without moving the zero point by 128 or the other way round, a zero point is taken from
another tensor, or writer and reader of an activation's codes disagree.

*How it shows*
A constant offset of a whole tensor, most visible where the input is zero or at padded borders; a range that is cut off
at one end.

*Repair*
For a weight the zero point with which its codes are the source's weight. For an activation the reader's zero point is
the writer's or the other way round; where both are wrong, the one with which the source's values fit the range.

*When not to apply*
Rounding, or calibration on other samples, explains the error.

*Seen in*
uint8 and int8 forms of the same TFLite model (common knowledge, no thread found)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.activations import Place, misfit, only_shifted, place_of, places, source_grid, true_values
from fetafix.graph.coded import Coded, coded, weights_in_codes
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph
from fetafix.quantisation import Grid

CODE = "qp-zero-point"


def _moved(grid: Grid, zero: float) -> Grid:
    """The grid with another zero point for all slices."""
    low, high = grid.bounds
    return replace(grid, zero_point=np.full(grid.zero_point.shape, np.clip(round(zero), low, high), grid.dtype))


def _weight(found: Coded) -> tuple[int, list[Edit]] | None:
    """By how much the zero point of a weight is off, and the edit; None where that does not explain it."""
    step = found.grid.step(found.codes.ndim)
    off = int(np.rint(np.median(found.codes - found.reference / np.where(step > 0, step, 1.0))))
    if off == 0 or not np.all(np.abs(found.reference - step * (found.codes - off)) <= 0.75 * step):
        return None
    zero = found.grid.zero_point.astype(np.int64) + off
    if np.any((zero < found.grid.bounds[0]) | (zero > found.grid.bounds[1])):
        return None
    return off, [SetInput(found.node.key, 2, zero.astype(found.grid.dtype))]


def _activation(segment: Segment, place: Place, values: Array | None) -> Iterator[tuple[str, list[Edit]]]:
    """The ways to mend a place where activations are rounded."""
    a, b = place.written, place.read
    theirs = source_grid(segment, place) if place.agree else None
    if theirs is not None and only_shifted(a, theirs):
        yield "the source rounds the same values with another zero point", place.regrid(theirs)
        return
    if not np.array_equal(a.zero_point, b.zero_point) and np.array_equal(a.scale, b.scale):
        yield "codes are written with one zero point and read with another", place.regrid(a, write=False)
        yield "codes are written with one zero point and read with another", place.regrid(b, read=False)
    elif place.agree and values is not None and misfit(a, values) == "clips":
        low, high = a.bounds
        scale = float(a.scale.reshape(-1)[0])
        for zero in (low - min(float(values.min()), 0.0) / scale, high - max(float(values.max()), 0.0) / scale):
            new = _moved(a, zero)
            if not np.array_equal(new.zero_point, a.zero_point) and misfit(new, values) is None:
                yield "the range begins and ends beside the values", place.regrid(new)
    elif place.agree and values is not None and values.min() < 0 <= segment.expected.min():
        new = _moved(a, a.bounds[0])
        if not np.array_equal(new.zero_point, a.zero_point):
            yield "the range begins below zero, where saturation should have done a Relu", place.regrid(new)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Weights and activations whose zero point explains the error."""
    for found in coded(segment):
        shift = _weight(found)
        if shift is not None:
            p = found.parameter
            yield Suspicion(CODE, p.node.key, p.twin.key, 0.97, {"zero_point_off_by": shift[0]},
                            f"the weight's zero point is off by {shift[0]}", shift[1])
    for place in places(segment):
        for how, edits in _activation(segment, place, true_values(segment, place)):
            zeros = [int(g.zero_point.reshape(-1)[0]) for g in (place.written, place.read)]
            yield Suspicion(CODE, place.writer.key, segment.pairs.get(place.before), 0.95,
                            {"written_with": zeros[0], "read_with": zeros[1]}, how, edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The zero point that fits."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The zero point of a weight, of an activation's reader or of both ends moved by 3 to 20, or by half the range."""
    off = [*range(3, 21), 64][int(rng.integers(19))]
    made: list[list[Edit]] = []
    for node, _, grid, _ in weights_in_codes(graph):
        made.append([SetInput(node.key, 2, _moved(grid, float(grid.zero_point.reshape(-1)[0]) + off).zero_point)])
    for writer in (n for n in graph.nodes if n.op == "QuantizeLinear"):
        place = place_of(graph, writer)
        if place is not None and place.agree:
            new = _moved(place.written, float(place.written.zero_point.reshape(-1)[0]) + off)
            made += [place.regrid(new, write=False), place.regrid(new)] if off < 64 else [place.regrid(new)]
    made = [m for m in made if m]
    return made[int(rng.integers(len(made)))] if made else None


FAULT = FaultType(CODE, "Zero point off", "QP", detect, propose, inject)
