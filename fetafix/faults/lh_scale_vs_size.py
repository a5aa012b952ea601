"""A Resize takes its scale from the sizes, or the other way round.

*What goes wrong*
An output of ⌊5 · 2.5⌋ = 12 pixels is resized by 2.5 if scales are given and by 12/5 = 2.4 if sizes are. A converter
that writes one for the other (or torch's recompute_scale_factor) keeps the shape and moves the coordinates.

*How it shows*
A drift that grows along the axis; shapes agree, the effective scales of the twins do not. Fractional scales only.

*Repair*
Give the target the source's scales.

*When not to apply*
Scales whose product with the size is whole; align_corners, which uses the lengths alone.

*Seen in*
ncnn PR#6837, pytorch#27376
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape, version
from fetafix.graph.resampling import resized, same_pixels
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Array, Graph, Node

CODE = "lh-scale-vs-size"
_SCALES, _SIZES = 2, 3


def _whole(scale: float, size: int, out: int) -> np.float32:
    """A scale in float32 that still makes `out` pixels of `size`: ⌊size · scale⌋ is rounded down in float32."""
    single = np.float32(scale)
    return np.nextafter(single, np.float32(np.inf)) if int(np.float32(size) * single) < out else single


def with_scales(node: Node, graph: Graph, scales: Sequence[float], out: Sequence[int]) -> list[Edit]:
    """Edits that give a Resize these scales (one per axis) for an output of this shape; [] where it cannot take them.

    Scales and not sizes, so that no batch is baked in.
    """
    dims = shape(graph, node.input(0))
    if dims is None or len(dims) != len(scales) or node.op != "Resize" or version(graph, node) < 11:
        return []
    exact = np.array([_whole(s, i, o) for s, i, o in zip(scales, dims, out, strict=True)], np.float32)
    axes: object = node.attrs.get("axes")
    chosen: Array = exact[list(axes)] if isinstance(axes, tuple) else exact
    drop: list[Edit] = [SetInput(node.key, _SIZES, None)] if node.input(_SIZES) else []
    return [SetInput(node.key, _SCALES, chosen), *drop]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Resize twins with other effective scales."""
    for setting in settings(segment):
        ours, theirs = setting.values.get("scales", (None, None))
        dims = shape(segment.full, setting.target.input(0))
        if not ours or not theirs or dims is None or len(theirs) != len(dims):
            continue
        out = tuple(int(np.floor(d * s * (1 + 1e-6))) for d, s in zip(dims, theirs, strict=True))
        alone = with_scales(setting.target, segment.full, theirs, out)
        rest = setting.adopt(segment, [n for n in setting.values if n != "scales"])
        edits = [e for e in (alone, [*alone, *rest] if alone and rest else []) if e]
        best = min((segment.trial(e) for e in edits), default=float("inf"))
        confidence = 0.95 if segment.healed(best) else 0.4
        yield Suspicion(CODE, setting.target.key, setting.source.key, confidence,
                        {"scales": list(ours), "source_scales": list(theirs)},
                        f"resizes by {_said(ours)}, the source by {_said(theirs)}", edits)


def _said(scales: Sequence[float]) -> str:
    return " × ".join(f"{s:.6g}" for s in scales)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's scales, then with its other settings."""
    return suspicion.data  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[list[Edit]]:
    values, axes, out = canonical(node, graph), resized(node, graph), shape(graph, node.key)
    rule = str(values.get("coordinate_transformation_mode", ""))
    if out is None or not axes or version(graph, node) < 11 or rule in ("align_corners", "tf_crop_and_resize"):
        return []
    given = graph.constant(node, _SCALES) is not None
    scales = [o / i if given else (o + 0.5) / i for i, o, _ in axes]
    if max(abs(a - s) for a, (_, _, s) in zip(scales, axes, strict=True)) < 1e-3:
        return []
    if values["mode"] == "nearest" and same_pixels(node, graph, rule, values["nearest_mode"], scales):
        return []
    changed = iter(scales)
    full = [next(changed) if i != o else 1.0 for i, o in zip(shape(graph, node.input(0)) or (), out, strict=True)]
    made = [with_scales(node, graph, full, out)]
    if given and version(graph, node) >= 18 and "axes" not in node.attrs:
        at = tuple(i for i in range(len(out)) if full[i] != 1.0)
        sizes = np.array([out[i] for i in at], np.int64)
        made.append([SetAttribute(node.key, "axes", at), SetInput(node.key, _SIZES, sizes),
                     SetInput(node.key, _SCALES, None)])
    return [m for m in made if m]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Sizes for scales, or scales that floor to the same sizes."""
    places = [e for n in graph.nodes if n.op == "Resize" and not n.domain for e in _wrong(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Scale taken from sizes", "LH", detect, propose, inject)
