"""An Upsample became a Resize with the newer default rule.

*What goes wrong*
Upsample and Resize before operator set 11 map pixels by the rule "asymmetric" (nearest: rounded down) and have no
attribute for it. Relabelled or converted without it, the Resize works by half_pixel, rounding half to the floor.

*How it shows*
A sub-pixel shift; the source is an Upsample (or has its rule), and the target's Resize names no rule of its own.

*Repair*
Write asymmetric, and floor where the mode is nearest.

*When not to apply*
A Resize that names a wrong rule is lh-resize-coord; so is every target in whose format rules are always written down.
NO-OP: nearest at ×2, where both rules take the same pixels.

*Seen in*
onnxruntime#1179
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical, version
from fetafix.graph.resampling import resized, same_pixels
from fetafix.graph.segment import Segment
from fetafix.graph.settings import Setting, settings
from fetafix.ir import Graph, Node

CODE = "vs-upsample"
_RULE = "coordinate_transformation_mode"
_NAMES = (_RULE, "nearest_mode")
_SURER = 1.02


def detect(segment: Segment) -> Iterator[Suspicion]:
    """A Resize by the default rule whose twin has the rule of Upsample."""
    for setting in settings(segment):
        if _defaulted(setting, segment):
            yield setting_claim(CODE, segment, setting, _NAMES, _SURER)


def _defaulted(setting: Setting, segment: Segment) -> bool:
    target, source = setting.target, setting.source
    ours, theirs = setting.values.get(_RULE, (None, None))
    if target.op != "Resize" or version(segment.full, target) < 11 or theirs != "asymmetric":
        return False
    old = source.op == "Upsample" or version(segment.source, source) < 11
    return _RULE not in target.attrs or (old and ours in ("half_pixel", "pytorch_half_pixel"))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The rule of Upsample, then with its rounding."""
    return setting_edits(segment, suspicion)


def _shows(node: Node, graph: Graph) -> bool:
    """Whether a Resize by the rule of Upsample does something else by the defaults."""
    values, axes = canonical(node, graph), resized(node, graph)
    if version(graph, node) < 11 or not axes or values[_RULE] != "asymmetric":
        return False
    if values["mode"] != "nearest":
        return True
    return values["nearest_mode"] == "floor" and not same_pixels(node, graph, "half_pixel", "round_prefer_floor")


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The attributes of a Resize that stands for an Upsample are dropped."""
    places = [n for n in graph.nodes if n.op == "Resize" and not n.domain and _shows(n, graph)]
    if not places:
        return None
    node = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, n, None) for n in _NAMES if n in node.attrs]


FAULT = FaultType(CODE, "Upsample became a Resize of another rule", "VS", detect, propose, inject)
