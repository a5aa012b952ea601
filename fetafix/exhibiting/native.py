"""Layers and neighbourhoods of a pair whose layers were compared in the native runtimes (see `fetafix.tapped`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fetafix.exhibiting.attach import attached
from fetafix.exhibiting.sketches import Box, sketch
from fetafix.exhibits import LayerError, Neighbourhood, Sketch
from fetafix.formats.base import Tap, Taps
from fetafix.graph.fingerprint import relate
from fetafix.graph.segment import Layout, relative_error
from fetafix.graph.traces import Introduced
from fetafix.ir import Array
from fetafix.report import Report
from fetafix.session import Session
from fetafix.tapped import Looks, Tapped


def tapped(report: Report, session: Session, seen: Tapped) -> Report:
    """The report with what the taps tell, where exhibits were asked for. Its findings are those of `seen`."""
    if not session.options.exhibits or seen.looks is None:
        return report
    with session.timed("exhibits"):
        around = [_around(place, seen.looks) for place in seen.places]
        return attached(report, layers=list(_rows(seen.places, seen.looks)), neighbourhoods=around)


def _rows(places: tuple[Introduced, ...], looks: Looks) -> Iterator[LayerError]:
    """One a tensor with a twin, in the order in which the target's layers ran.

    What is introduced is measured with the source's activations in place of those that the findings are about.
    """
    makers = {o: tap.layer for tap in looks.source.layers for o in tap.outputs}
    at = {p.target: i for i, p in reversed([*enumerate(places)])}
    pairs = dict(looks.traces.twins) | {p.target: (p.source, p.layout) for p in places}
    for tap in looks.target.layers:
        for name in tap.outputs:
            held = looks.target.values.get(name)
            if name not in pairs or held is None or held.dtype.kind not in "fV":
                continue
            source, layout = pairs[name]
            there, place = looks.source.values[source], places[at[name]] if name in at else None
            forced = looks.traces.target.values.get(name)
            introduced = place.error if place is not None else None if forced is None else _off(forced, there, layout)
            yield LayerError(
                target_layer=tap.layer, source_layer=makers.get(source, source), op=tap.op,
                carried=_finite(_off(held, there, layout)), introduced=_finite(introduced), guilty=place is not None,
                findings=[at[name]] if place is not None else [])  # fmt: skip


def _off(value: Array, source: Array, layout: Layout) -> float:
    if value.size != source.size:
        return float("inf")
    with np.errstate(all="ignore"):
        return relative_error(value.astype(np.float32), relate(source, layout, value.shape).astype(np.float32))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _around(place: Introduced, looks: Looks) -> Neighbourhood:
    return Neighbourhood(
        source=_drawn(looks.source, place.source_layers, place.source),
        target=_drawn(looks.target, place.layers, place.target),
    )


def _drawn(taps: Taps, found: tuple[Tap, ...], goal: str) -> Sketch | None:
    boxes = [Box(t.layer, t.op, t.inputs, t.outputs) for t in taps.layers]
    shapes = {name: value.shape for name, value in taps.values.items()}
    outputs = {o for t in taps.layers[-1:] for o in t.outputs}
    return sketch(boxes, {goal, *(o for t in found for o in t.outputs)}, shapes, outputs)
