"""A Resize weighs its neighbours by another kernel: cubic coefficient, antialiasing, what lies outside.

*What goes wrong*
The cubic coefficient is −0.75 in ONNX and torch, −0.5 in TensorFlow and PIL; antialias is dropped, or a resampler with
antialiasing (PIL) replaced by one without; exclude_outside is lost.

*How it shows*
Edges ring more or less, fine structure aliases where the map shrinks; `cubic_coeff_a`, `antialias` or
`exclude_outside` of the twins differs.

*Repair*
Take over the source's attributes.

*When not to apply*
Antialiasing where the map grows: a NO-OP. A coefficient of a Resize that is not cubic.

*Seen in*
pytorch#177138, onnxruntime#25264
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical, version
from fetafix.graph.resampling import resized
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-cubic-a"
_NAMES = ("cubic_coeff_a", "antialias", "exclude_outside")
_COEFFICIENTS = (-0.5, -0.75)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Resize twins of one mode with another kernel."""
    for setting in settings(segment):
        if setting.target.op == "Resize" and "mode" not in setting.values and set(_NAMES) & set(setting.values):
            yield setting_claim(CODE, segment, setting, setting.helpful(segment, _NAMES))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's attributes, the most helpful one first."""
    return setting_edits(segment, suspicion)


def _wrong(node: Node, graph: Graph) -> list[tuple[str, Any]]:
    values, axes = canonical(node, graph), resized(node, graph)
    if version(graph, node) < 11 or not axes or values["mode"] == "nearest":
        return []
    found: list[tuple[str, Any]] = []
    if values["mode"] == "cubic":
        old = values["cubic_coeff_a"]
        found += [("cubic_coeff_a", a) for a in _COEFFICIENTS if abs(a - old) > 0.1]
    if version(graph, node) >= 18 and any(o < i for i, o, _ in axes):
        found.append(("antialias", 1 - int(values.get("antialias", 0))))
    return found


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The other cubic coefficient; antialiasing turned where the map shrinks."""
    places = [(n, *w) for n in graph.nodes if n.op == "Resize" and not n.domain for w in _wrong(n, graph)]
    if not places:
        return None
    node, name, value = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, name, value)]


FAULT = FaultType(CODE, "Wrong Resize kernel", "LH", detect, propose, inject)
