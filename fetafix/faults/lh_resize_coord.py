"""A Resize maps output pixels to input pixels by another rule.

*What goes wrong*
half_pixel, asymmetric and align_corners are confused; an Upsample becomes a Resize with the default rule.

*How it shows*
A sub-pixel shift everywhere; `coordinate_transformation_mode` of the twins differs.

*Repair*
Take over the source's rule, and its nearest_mode where that differs.

*When not to apply*
half_pixel against pytorch_half_pixel unless an output is one pixel wide. An Upsample or Resize of opset 10 knows one
rule only and cannot be set.

*Seen in*
tensorflow-onnx PR#932, TensorRT#273, onnxruntime#28086, onnxruntime#1179
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape, version
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-resize-coord"
_MODE = "coordinate_transformation_mode"
_NAMES = [_MODE, "nearest_mode"]
_RULES = ("half_pixel", "asymmetric", "align_corners")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Resize twins with another rule."""
    for setting in settings(segment):
        if setting.target.op not in ("Resize", "Upsample") or _MODE not in setting.values:
            continue
        ours, theirs = setting.values[_MODE]
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, _NAMES),
            {"mode": ours, "source_mode": theirs}, f"resizes by the rule {ours}, the source by {theirs}", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's rule, then with its nearest_mode."""
    return suspicion.data.candidates(segment, _NAMES)  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[str]:
    """Rules that give another result: a nearest Resize by whole factors may not tell them apart."""
    values, dims, out = canonical(node, graph), shape(graph, node.input(0)), shape(graph, node.key)
    if dims is None or out is None or dims == out or version(graph, node) < 11:
        return []
    resized = [(i, o) for i, o in zip(dims, out, strict=True) if i != o]
    if min(min(pair) for pair in resized) < 2:
        return []
    if values["mode"] == "nearest" and not any(o % i for i, o in resized):
        return []
    return [r for r in _RULES if r != values[_MODE] and (r == "asymmetric") + (values[_MODE] == "asymmetric") <= 1]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another rule for a Resize, where it shows."""
    places = [(n, r) for n in graph.nodes if n.op == "Resize" for r in _wrong(n, graph)]
    if not places:
        return None
    node, rule = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, _MODE, rule)]


FAULT = FaultType(CODE, "Wrong Resize coordinates", "LH", detect, propose, inject)
