"""LeakyRelu or PRelu bend negative values with another slope.

*What goes wrong*
alpha is dropped and the target's default holds: 0.01 in ONNX and torch, 0.3 in Keras, 0.2 in TensorFlow, 0.1 in
darknet; PRelu slopes are lost or broadcast along the wrong axis.

*How it shows*
Only outputs of negative inputs are wrong; `alpha` (or the slope tensor) of the twins differs.

*Repair*
Take over the source's alpha or slopes; a LeakyRelu whose twin has a slope per channel becomes a PRelu.

*When not to apply*
A PRelu with equal slopes against a LeakyRelu of that alpha. An Elu's α is lh-elu-alpha.

*Seen in*
keras-onnx#584
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput, SetOperator, fresh
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.graph.twins import twins
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

CODE = "lh-leaky-alpha"
_ALPHA = ("LeakyRelu", "ThresholdedRelu")
_USUAL = (0.01, 0.1, 0.2, 0.3, 0.5)
_SLOPED = ("LeakyRelu", "PRelu")


def _slope(node: Node, graph: Graph) -> Array | None:
    if node.op == "PRelu":
        return graph.constant(node, 1)
    return np.asarray(canonical(node, graph)["alpha"], np.float32)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with another alpha, or PRelu twins with other slopes."""
    for setting in settings(segment):
        if setting.target.op == setting.source.op and setting.target.op in _ALPHA and "alpha" in setting.values:
            ours, theirs = setting.values["alpha"]
            yield Suspicion(
                CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["alpha"]),
                {"alpha": ours, "source_alpha": theirs}, f"alpha is {ours:g}, in the source {theirs:g}",
                list(setting.candidates(segment, ["alpha"])),
            )
    for target, source in twins(segment):
        if "PRelu" not in (target.op, source.op) or not {target.op, source.op} <= set(_SLOPED):
            continue
        a, b = _slope(target, segment.target), _slope(source, segment.source)
        if a is None or b is None or (a.shape == b.shape and close(a, b)):
            continue
        edits = [e for e in _with_slope(target, b, segment) if segment.trial(e) < 0.5 * min(segment.error, 1e30)]
        if edits:
            explanation = "the slopes for negative values are not the source's"
            yield Suspicion(CODE, target.key, source.key, 0.9, {"slopes": int(b.size)}, explanation, edits)


def _with_slope(node: Node, slope: Array, segment: Segment) -> list[list[Edit]]:
    """Ways to give the target's node the source's slopes."""
    if node.op == "LeakyRelu":
        if slope.size == 1:
            return [[SetAttribute(node.key, "alpha", float(slope.reshape(-1)[0]))]]
        name = fresh(segment.full, f"{node.key}_slope")
        return [[SetOperator(node.key, "PRelu", {}, (node.input(0), name), constants={name: slope})]]
    old = segment.target.constant(node, 1)
    if old is not None and slope.size == 1:
        return [[SetInput(node.key, 1, np.full(old.shape, slope.reshape(-1)[0], old.dtype))]]
    same_size = old is not None and old.size == slope.size and old.shape != slope.shape
    shapes = [old.shape, slope.shape] if old is not None and same_size else [slope.shape]
    return [[SetInput(node.key, 1, slope.reshape(s))] for s in shapes]


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's alpha or slopes."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another framework's default alpha; PRelu slopes become one default slope."""
    nodes = [n for n in graph.nodes if n.op == "LeakyRelu" or (n.op == "PRelu" and graph.constant(n, 1) is not None)]
    if not nodes:
        return None
    node = nodes[int(rng.integers(len(nodes)))]
    old = np.asarray(_slope(node, graph))
    options = [a for a in _USUAL if float(np.max(np.abs(old - a))) > 0.05]
    alpha = options[int(rng.integers(len(options)))]
    if node.op == "PRelu":
        return [SetInput(node.key, 1, np.full(old.shape, alpha, old.dtype))]
    return [SetAttribute(node.key, "alpha", alpha)]


FAULT = FaultType(CODE, "Wrong slope for negative values", "LH", detect, propose, inject)
