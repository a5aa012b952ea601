"""A map is padded with other values: reflected, repeated, wrapped, or a constant.

*What goes wrong*
A mode that the target lacks becomes constant, reflect and symmetric (edge included) are confused, the constant is
lost; a reflecting Pad in front of a convolution is merged into the convolution's own zero padding.

*How it shows*
Only a border as wide as the padding is wrong, shapes agree. `mode` or `value` of the Pad twins differs, or one side
pads within its operator and the other by a Pad that fills in something else than zeros.

*Repair*
Take over mode and value; where the Pad is gone, put it back and take the operator's own padding out.

*When not to apply*
Other amounts (lh-pads-lost); what surrounds a MaxPool (lh-maxpool-zero-pad); a zero Pad and a padded convolution.

*Seen in*
tvm PR#4029
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim
from fetafix.graph.attributes import canonical, front_pad, shape, version
from fetafix.graph.compare import assign
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.padding import inserted, merged, unmerged
from fetafix.graph.segment import Segment
from fetafix.graph.settings import Setting, settings
from fetafix.ir import Graph, Node

CODE = "lh-pad-mode"
_NAMES = ("mode", "value")
_MODES = ("constant", "edge", "reflect")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Pad twins of another filling; a Pad that fills where the source pads with zeros; kernels that lost their Pad."""
    for setting in settings(segment):
        if setting.target.op == setting.source.op == "Pad" and set(_NAMES) & set(setting.values):
            yield _twins(segment, setting)
        elif "pads" in setting.values and (front := front_pad(setting.target, segment.full)) is not None:
            error, found = best(segment, [assign(front.node, segment.full, {"mode": "constant", "value": 0.0})])
            if front.mode != "constant" and segment.healed(error):
                yield Suspicion(CODE, front.node.key, setting.source.key, 0.95, {"mode": front.mode},
                                f"pads by mode {front.mode}, the source with zeros", found)
    for unit in () if segment.healed(segment.error) else merged(segment):
        if unit.front.mode == "constant" and (unit.target.op == "MaxPool" or unit.front.value == 0.0):
            continue
        error, found = best(segment, unmerged(segment, unit))
        if found:
            yield Suspicion(CODE, unit.target.key, unit.front.node.key, sureness(segment, error),
                            {"source_mode": unit.front.mode, "source_value": unit.front.value},
                            f"pads with zeros by itself, the source by a Pad of mode {unit.front.mode}", found)


def _twins(segment: Segment, setting: Setting) -> Suspicion:
    """Two Pads: a constant is compared only where the source's Pad fills one in."""
    names = [n for n in _NAMES if n in setting.values and (n == "mode" or setting.values[n][1] is not None)]
    said = setting_claim(CODE, segment, setting, names)
    tried = [setting.adopt(segment, n) for n in (names[:1], names, [*names, "pads"])]
    return Suspicion(CODE, said.target, said.source, said.confidence, said.evidence, said.explanation,
                     [e for i, e in enumerate(tried) if e and len(e) > (len(tried[i - 1]) if i else 0)])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's filling."""
    return suspicion.data  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[str]:
    """Modes that the padded size allows: reflecting needs more pixels than it pads."""
    values, dims = canonical(node, graph), shape(graph, node.input(0))
    pads = values.get("pads")
    if dims is None or pads is None or len(pads) != 2 * len(dims) or not any(p > 0 for p in pads):
        return []
    modes = [m for m in _MODES if m != values["mode"]]
    narrow = any(p >= d for p, d in zip(pads, (*dims, *dims), strict=True) if p)
    return [m for m in modes if not (m == "reflect" and (narrow or version(graph, node) < 2))]


def _in_front(node: Node, graph: Graph) -> list[list[Edit]]:
    """A convolution's own zero padding as a Pad of another mode."""
    pads, dims = canonical(node, graph).get("pads"), shape(graph, node.input(0))
    if not pads or not any(pads) or dims is None or front_pad(node, graph) is not None:
        return []
    narrow = max(pads) >= min(dims[2:])
    auto: list[Edit] = [SetAttribute(node.key, "auto_pad", None)] if "auto_pad" in node.attrs else []
    return [[inserted(graph, node, pads, m), *auto, SetAttribute(node.key, "pads", (0,) * len(pads))]
            for m in _MODES if m != "constant" and not (m == "reflect" and narrow)]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Pad fills by another mode; without one, a convolution gets a Pad that repeats or reflects."""
    places = [assign(n, graph, {"mode": m}) for n in graph.nodes if n.op == "Pad" and not n.domain
              for m in _wrong(n, graph)]
    places = places or [e for n in graph.nodes if n.op == "Conv" and not n.domain for e in _in_front(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Padding filled another way", "LH", detect, propose, inject)
