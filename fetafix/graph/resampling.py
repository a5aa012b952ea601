"""Coordinate arithmetic of Resize: which input pixels an output pixel is made of.

Formulas are those of the ONNX operator documentation (Resize-11 and later), one axis at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fetafix.graph.attributes import canonical, shape
from fetafix.ir import Array, Graph, Node


def coordinates(size: int, out: int, scale: float, rule: str) -> Array:
    """The input coordinate of each of `out` output pixels, float64 (out,), by a coordinate_transformation_mode."""
    x = np.arange(out, dtype=np.float64)
    if rule == "align_corners":
        return x * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if rule == "asymmetric":
        return np.asarray(x / scale)
    if rule == "pytorch_half_pixel" and out == 1:
        return np.zeros(out)
    return np.asarray((x + 0.5) / scale - 0.5)


def picks(size: int, out: int, scale: float, rule: str, nearest: str) -> Array:
    """The input pixel that mode "nearest" takes for each output pixel, int64 (out,)."""
    x = coordinates(size, out, scale, rule)
    rounded = {"floor": np.floor(x), "ceil": np.ceil(x), "round_prefer_floor": np.ceil(x - 0.5),
               "round_prefer_ceil": np.floor(x + 0.5)}[nearest]
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def resized(node: Node, graph: Graph) -> list[tuple[int, int, float]]:
    """(size, output size, scale) of each axis that a Resize changes; [] where shapes are unknown."""
    dims, out = shape(graph, node.input(0)), shape(graph, node.key)
    scales = canonical(node, graph).get("scales")
    if dims is None or out is None or scales is None or len(dims) != len(out):
        return []
    return [(i, o, float(s)) for i, o, s in zip(dims, out, scales, strict=True) if i != o]


def same_pixels(node: Node, graph: Graph, rule: str, nearest: str, scales: Sequence[float] | None = None) -> bool:
    """Whether a nearest Resize takes the same pixels by another rule, rounding or scales (one per changed axis)."""
    values, axes = canonical(node, graph), resized(node, graph)
    given = [s for _, _, s in axes] if scales is None else scales
    old, kind = values["coordinate_transformation_mode"], values.get("nearest_mode", "round_prefer_floor")
    return all(np.array_equal(picks(i, o, s, old, kind), picks(i, o, t, rule, nearest))
               for (i, o, s), t in zip(axes, given, strict=True))
