"""The bound of a Clip (Relu6) is lost or another.

*What goes wrong*
Relu6 becomes Relu, or a bound is dropped or replaced on the way from attribute to input.

*How it shows*
Only outputs beyond the lost bound are wrong; `min` or `max` of the twins differs, a Relu counting as [0, ∞).

*Repair*
Take over the source's bounds; a Relu becomes a Clip.

*When not to apply*
NO-OP where no activation reaches the bound: such a segment introduces no error.

*Seen in*
MMdnn#72, onnx2keras#167, ncnn#1609
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetOperator, fresh
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, version
from fetafix.graph.compare import assign
from fetafix.graph.segment import Segment
from fetafix.graph.settings import Setting, settings
from fetafix.ir import Array, Graph

CODE = "lh-relu6-max"
_BOUNDS = ("max", "min")
_BOUNDED = ("Clip", "Relu")


def _as_clip(setting: Setting, segment: Segment) -> list[Edit]:
    """A Relu becomes a Clip with the source's bounds."""
    node, graph = setting.target, segment.full
    low, high = (float(v) for v in canonical(setting.source, segment.source).values())
    if version(graph, node) < 11:
        return [SetOperator(node.key, "Clip", {"min": low, "max": high})]
    constants: dict[str, Array] = {}
    inputs = [node.input(0)]
    for word, value in (("min", low), ("max", high)):
        name = "" if math.isinf(value) else fresh(graph, f"{node.key}_{word}")
        inputs.append(name)
        if name:
            constants[name] = np.asarray(value, np.float32)
    return [SetOperator(node.key, "Clip", {}, tuple(inputs), constants=constants)]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Clip or Relu twins with other bounds."""
    for setting in settings(segment):
        values = {b: setting.values[b] for b in _BOUNDS if b in setting.values}
        if not {setting.target.op, setting.source.op} <= set(_BOUNDED) or not values:
            continue
        if setting.target.op == "Relu":
            candidates = [_as_clip(setting, segment)]
        else:
            candidates = list(setting.candidates(segment, list(values)))
        best = min((segment.trial(c) for c in candidates), default=math.inf)
        said = ", ".join(f"{b} {ours:g} (source {theirs:g})" for b, (ours, theirs) in values.items())
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, 0.95 if segment.healed(best) else 0.5,
            {b: ours for b, (ours, _) in values.items()} | {f"source_{b}": theirs for b, (_, theirs) in values.items()},
            f"clips at other bounds: {said}", candidates,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's bounds."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Clip loses its upper bound, or gets half of it (which few activations can escape)."""
    nodes = [n for n in graph.nodes if n.op == "Clip" and math.isfinite(canonical(n, graph)["max"])]
    if not nodes:
        return None
    node = nodes[int(rng.integers(len(nodes)))]
    values = canonical(node, graph)
    low = values["min"] if math.isfinite(values["min"]) else 0.0
    options = [math.inf, low + (values["max"] - low) / 2]
    return assign(node, graph, {"max": options[int(rng.integers(len(options)))]})


FAULT = FaultType(CODE, "Clip bound lost", "LH", detect, propose, inject)
