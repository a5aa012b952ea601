"""A nearest Resize rounds coordinates another way.

*What goes wrong*
floor, ceil, round_prefer_floor and round_prefer_ceil are confused, or the attribute is dropped and the default
round_prefer_floor holds.

*How it shows*
Some output pixels come from the neighbour; `nearest_mode` of the twins differs.

*Repair*
Take over the source's rounding.

*When not to apply*
Where both take the same pixels: at ×2, asymmetric with floor is half_pixel with either round. Where the rule for
coordinates differs and explains it: lh-resize-coord. Of two forms that differ in both, the one edit that heals counts.

*Seen in*
tensorflow-onnx#2168, onnxruntime#28310
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical, version
from fetafix.graph.resampling import resized, same_pixels
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-nearest-mode"
_NAME = "nearest_mode"
_ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Nearest Resize twins with another rounding."""
    for setting in settings(segment):
        ours, theirs = setting.values.get(_NAME, (None, None))
        if setting.target.op == "Resize" and ours is not None and theirs is not None:
            yield setting_claim(CODE, segment, setting, [_NAME])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's rounding."""
    return setting_edits(segment, suspicion)


def _wrong(node: Node, graph: Graph) -> list[str]:
    """Roundings that take other pixels."""
    values = canonical(node, graph)
    if version(graph, node) < 11 or values["mode"] != "nearest" or not resized(node, graph):
        return []
    rule = values["coordinate_transformation_mode"]
    return [r for r in _ROUNDINGS if r != values[_NAME] and not same_pixels(node, graph, rule, r)]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another rounding of a nearest Resize, where it shows."""
    places = [(n, r) for n in graph.nodes if n.op == "Resize" and not n.domain for r in _wrong(n, graph)]
    if not places:
        return None
    node, rounding = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, _NAME, rounding)]


FAULT = FaultType(CODE, "Nearest pixel rounded another way", "LH", detect, propose, inject)
