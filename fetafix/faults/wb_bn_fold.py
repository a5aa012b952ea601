"""A BatchNormalization was folded into the layer before it, wrongly.

*What goes wrong*
The right fold is W' = W·γ/√(σ²+ε), b' = β + (b−μ)·γ/√(σ²+ε). Converters skip b, γ, β or μ, use another ε, or σ² for σ.

*How it shows*
The source has layer + BatchNormalization, the target the layer alone, and its weight and bias are what one of these
mistakes makes of the source's parameters.

*Repair*
Fold again: set the target's weight and bias.

*When not to apply*
The fold is right; the target kept its BatchNormalization (wb-bn-param-swap, lh-bn-eps). The folded bias is missing or
zero, and the layer had none of its own: no evidence tells that from a bias that was dropped later (wb-bias).

*Seen in*
onnx/optimizer#178, onnx#2677
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, RemoveNode, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.fold import BN_BIAS, BN_MEAN, BN_SCALE, BN_VAR, Chain, Folded, chains
from fetafix.graph.parameters import Pair, pairs
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

CODE = "wb-bn-fold"
_DROPPED = "it was dropped instead of folded"
_EPSILONS = (1e-5, 1e-3, 1e-12, 1e-4, 1e-2)


def _batchnorm(chain: Chain) -> Node | None:
    """The BatchNormalization right behind a chain's linear operator."""
    second = chain.nodes[1] if chain.head is not None and len(chain.nodes) > 1 else None
    return second if second is not None and second.op == "BatchNormalization" else None


def misfolds(chain: Chain) -> dict[str, Folded]:
    """What known mistakes make of layer + BatchNormalization, by what went wrong."""
    node, graph = _batchnorm(chain), chain.graph
    start = Chain(chain.nodes[:1], graph).folded
    if node is None or start is None or len(chain.nodes) != 2:
        return {}
    slots = (BN_SCALE, BN_BIAS, BN_MEAN, BN_VAR)
    gamma, beta, mean, var = (np.asarray(graph.constant(node, s), np.float64) for s in slots)
    epsilon, bias = float(canonical(node, graph)["epsilon"]), start.bias
    right = gamma / np.sqrt(var + epsilon)

    def made(scale: Array, b: Array) -> Folded:
        return Folded(start.kind, start.weight * start.spread(scale), b, start.group)

    def proper(scale: Array) -> Folded:
        return made(scale, beta + (bias - mean) * scale)

    found = {f"ε = {e:g} instead of {epsilon:g}": proper(gamma / np.sqrt(var + e))
             for e in _EPSILONS if abs(e - epsilon) > 1e-3 * epsilon}
    return found | ({"the bias was not folded": made(right, bias)} if np.any(bias) else {}) | {  # else it is wb-bias
        "the layer's own bias was skipped": made(right, beta - mean * right),
        "μ was skipped": made(right, beta + bias * right),
        "β was skipped": made(right, (bias - mean) * right),
        "the weight was not folded": made(np.ones_like(right), beta + (bias - mean) * right),
        "σ² was taken for σ": proper(gamma / (var + epsilon)),
        "γ was skipped": proper(1 / np.sqrt(var + epsilon)),
        _DROPPED: start,
    }


def _explanation(pair: Pair) -> str | None:
    """The mistake that explains the target's layer, if its fold is not right and one does."""
    both = pair.folded
    if both is None or _batchnorm(pair.source) is None or _batchnorm(pair.target) is not None:
        return None
    ours, right = both
    if ours.equals(right):
        return None
    fitting = ((how, w) for how, wrong in misfolds(pair.source).items() if (w := wrong.like(ours)) is not None)
    return next((how for how, w in fitting if ours.equals(w)), None)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Layers that are a known misfold of the source's layer and BatchNormalization."""
    for pair in pairs(segment):
        how = _explanation(pair)
        if how is not None:
            node, batchnorm = pair.target.nodes[0], pair.source.nodes[1]
            yield Suspicion(CODE, node.key, batchnorm.key, 0.97, {"mistake": how},
                            f"BatchNormalization {batchnorm.label} was folded wrongly: {how}", pair)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The right fold."""
    yield [p.edit(segment.full) for p in suspicion.data.parameters if p.differs]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Fold a BatchNormalization with one of the mistakes."""
    places = []
    for chain in chains(graph):
        head, right, batchnorm = chain.head, chain.folded, _batchnorm(chain)
        if head is None or right is None or batchnorm is None or head.op not in ("Conv", "ConvTranspose"):
            continue
        places += [(head, batchnorm, wrong) for how, wrong in misfolds(chain).items() if how != _DROPPED
                   and not (close(wrong.weight, right.weight, 1e-3) and close(wrong.bias, right.bias, 1e-3))]
    if not places:
        return None
    head, batchnorm, wrong = places[int(rng.integers(len(places)))]
    weight, bias = wrong.weight.astype(np.float32), wrong.bias.astype(np.float32)
    return [SetInput(head.key, 1, weight), SetInput(head.key, 2, bias), RemoveNode(batchnorm.key)]


FAULT = FaultType(CODE, "BatchNorm folded wrongly", "WB", detect, propose, inject)
