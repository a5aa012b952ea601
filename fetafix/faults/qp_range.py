"""An activation's range is calibrated wrongly.

*What goes wrong*
The scale of an activation was measured on unfit data, taken from another tensor, or lost a factor; writer and reader of
its codes may disagree.

*How it shows*
Saturation: large values are cut off (a Softmax whose rows no longer sum to 1 behind it); or waste: the values use a few
of 256 codes. Where writer and reader disagree, the whole tensor is scaled.

*Repair*
The reader's scale is the writer's or the other way round; else the scale, and where that is not enough the zero point,
are calibrated anew from the source's activations (least and largest value with a margin of 5%).

*When not to apply*
The range merely is wider than these few samples need, or cuts off a value here and there: it was calibrated on others.

*Seen in*
onnx2tf#942
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.activations import (
    at_input,
    covering,
    misfit,
    only_shifted,
    place_of,
    places,
    reach,
    rescaled,
    source_grid,
    true_values,
)
from fetafix.graph.segment import Segment
from fetafix.ir import Graph
from fetafix.quantisation import Grid

CODE = "qp-range"
_FACTORS = (0.125, 0.25, 32.0, 64.0)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Activations whose grid fails the source's values, or is not the same for writer and reader."""
    for place in places(segment):
        a, b = place.written, place.read
        twin = segment.pairs.get(place.before)
        if not np.array_equal(a.scale, b.scale):
            evidence = {"written_with": float(a.scale.reshape(-1)[0]), "read_with": float(b.scale.reshape(-1)[0])}
            yield Suspicion(CODE, place.writer.key, twin, 0.95, evidence,
                            "codes are written with one scale and read with another", place)
            continue
        values = true_values(segment, place)
        theirs = source_grid(segment, place)
        if theirs is not None and only_shifted(a, theirs):  # its zero point is what is wrong
            continue
        how = None if values is None or at_input(segment.full, place) else misfit(a, values)
        if how is not None and values is not None:
            low, high = reach(a)
            span = [float(values.min()), float(values.max())]
            found: dict[str, Any] = {"grid": [low, high], "values": span, "how": how}
            words = "cuts off what lies beyond" if how == "clips" else "is far too coarse for them:"
            yield Suspicion(CODE, place.writer.key, twin, 0.9 if how == "clips" else 0.7, found,
                            f"the source's values run from {values.min():.3g} to {values.max():.3g}; the grid {words} "
                            f"{low:.3g} to {high:.3g}", place)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The other end's grid; another scale; another scale and zero point."""
    place = suspicion.data
    if not place.agree:
        yield place.regrid(place.written, write=False)
        yield place.regrid(place.read, read=False)
    theirs, values = source_grid(segment, place), true_values(segment, place)
    if theirs is not None:
        yield place.regrid(theirs)
    if values is not None:
        yield place.regrid(rescaled(place.written, values))
        yield place.regrid(covering(place.written, values))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The scale of an activation multiplied by ⅛ or ¼ at both ends or at the reader's, or by 32 or 64."""
    found = [p for n in graph.nodes if n.op == "QuantizeLinear" and (p := place_of(graph, n)) is not None
             and p.agree and not at_input(graph, p)]
    if not found:
        return None
    place = found[int(rng.integers(len(found)))]
    factor = _FACTORS[int(rng.integers(len(_FACTORS)))]
    wrong: Grid = replace(place.written, scale=(place.written.scale * factor).astype(np.float32))
    return place.regrid(wrong, write=bool(factor > 1 or rng.integers(2)))


FAULT = FaultType(CODE, "Range miscalibrated", "QP", detect, propose, inject)
