"""A quantised input is calibrated for another range than the network's preprocessing gives.

*What goes wrong*
The converter quantised the input for pixels of 0…255 or 0…1, and the network's preprocessing gives −1…1 (or the other
way round): scale and zero point of the input belong to another convention.

*How it shows*
At the first rounding already: values beyond the range are cut off, or the whole image falls on a few codes.

*Repair*
Scale and zero point of the input from what the source is fed, of a usual range of pixels where that is one. The codes
of the weights stay; a file that stores biases on the product of input and weight scale needs those anew as well, which
is the writer's work.

*When not to apply*
The range merely is wider than these samples, or the target is meant to get other values than the source: then its
preprocessing is what to set (pp-range).

*Seen in*
MLPerf Tiny's int8 models, whose inputs are calibrated for raw pixels (common knowledge, no thread found)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.activations import (
    at_input,
    covering,
    misfit,
    place_of,
    places,
    reach,
    rescaled,
    source_grid,
    true_values,
)
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph
from fetafix.quantisation import Grid, grid_for

CODE = "id-int8-range"
_FACTORS = (0.25, 127.5)
_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0))


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Inputs whose grid fails what the source is fed."""
    for place in places(segment):
        values = true_values(segment, place) if at_input(segment.full, place) else None
        how = None if values is None or not place.agree else misfit(place.written, values)
        if how is None or values is None:
            continue
        low, high = reach(place.written)
        span = [float(values.min()), float(values.max())]
        what = "values beyond are cut off" if how == "clips" else "they fall on a few codes"
        yield Suspicion(CODE, place.writer.key, segment.pairs.get(place.before), 0.96,
                        {"input_grid": [low, high], "source_is_fed": span, "how": how},
                        f"the input's codes stand for {low:.3g} to {high:.3g}, the source is fed {span[0]:.3g} to "
                        f"{span[1]:.3g}: {what}", place)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The range of what the source is fed; with the same zero point where that does."""
    place, values = suspicion.data, true_values(segment, suspicion.data)
    theirs = source_grid(segment, place)
    if theirs is not None:
        yield place.regrid(theirs)
    usual = None if values is None else _usual(place.written, values)
    if usual is not None:
        yield place.regrid(usual)
    if values is not None:
        yield place.regrid(rescaled(place.written, values))
        yield place.regrid(covering(place.written, values))


def _usual(grid: Grid, values: Array) -> Grid | None:
    """The grid of the narrowest usual range of pixels that holds values; None where they fill none by half."""
    least, most = float(values.min()), float(values.max())
    for low, high in _RANGES:
        if low <= least and most <= high and most - least > 0.5 * (high - low):
            return grid_for(np.array(low), np.array(high), grid.dtype, symmetric=False)
    return None


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """An input calibrated for a quarter of its range, or for pixels 127.5 times as large."""
    found = [p for n in graph.nodes if n.op == "QuantizeLinear" and (p := place_of(graph, n)) is not None
             and p.agree and at_input(graph, p)]
    if not found:
        return None
    place = found[int(rng.integers(len(found)))]
    factor = _FACTORS[int(rng.integers(len(_FACTORS)))]
    return place.regrid(replace(place.written, scale=(place.written.scale * factor).astype(np.float32)))


FAULT = FaultType(CODE, "Input quantised for another range", "ID", detect, propose, inject)
