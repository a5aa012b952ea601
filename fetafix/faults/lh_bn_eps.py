"""A BatchNormalization works with another framework's epsilon.

*What goes wrong*
The attribute is dropped, and the target's default holds: 1e-3 in Keras, 1e-5 in ONNX and torch.

*How it shows*
`epsilon` of the twins differs. Channels scale by √((σ²+ε₁)/(σ²+ε₂)): little where σ² ≈ 1, much where it is small.

*Repair*
Take over the source's epsilon.

*When not to apply*
The target has no BatchNormalization left: an epsilon folded into weights is wb-bn-fold.

*Seen in*
nn-transfer PR#3
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.fold import BN_VAR
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-bn-eps"
_DEFAULTS = (1e-5, 1e-3)
_VISIBLE = 1e-3


def detect(segment: Segment) -> Iterator[Suspicion]:
    """BatchNormalization twins with another epsilon."""
    for setting in settings(segment):
        if setting.target.op != "BatchNormalization" or "epsilon" not in setting.values:
            continue
        ours, theirs = setting.values["epsilon"]
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["epsilon"]),
            {"epsilon": ours, "source_epsilon": theirs}, f"epsilon is {ours:g}, in the source {theirs:g}", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's epsilon."""
    return suspicion.data.candidates(segment, ["epsilon"])  # type: ignore[no-any-return]


def _visible(node: Node, graph: Graph, epsilon: float) -> bool:
    """Whether another epsilon scales some channel by more than a thousandth."""
    variance = graph.constant(node, BN_VAR)
    if variance is None:
        return False
    v = np.maximum(variance.astype(np.float64), 0.0)
    ratio = np.sqrt((v + canonical(node, graph)["epsilon"]) / (v + epsilon))
    return bool(np.max(np.abs(ratio - 1.0), initial=0.0) > _VISIBLE)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Keras' epsilon for torch's, or the other way round, where some variance is small enough to tell."""
    places = [(n, e) for n in graph.nodes if n.op == "BatchNormalization" for e in _DEFAULTS if _visible(n, graph, e)]
    if not places:
        return None
    node, epsilon = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, "epsilon", epsilon)]


FAULT = FaultType(CODE, "Wrong BatchNorm epsilon", "LH", detect, propose, inject)
