"""The four vectors of a BatchNormalization are in the wrong slots, or σ stands for σ².

*What goes wrong*
γ, β, μ and σ² have one shape and no type to tell them apart; formats order them differently, some keep σ or 1/σ.

*How it shows*
Some rearrangement of the target's own vectors (or the square or root of its variance) makes the layer what it is in the
source.

*Repair*
Put the vectors into the right slots, or square the variance.

*When not to apply*
The vectors hold other values; the BatchNormalization was folded (wb-bn-fold).

*Seen in*
common between Caffe, MXNet, darknet and ONNX
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import numpy as np

from fetafix.edits import Edit, SetInput, apply
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.fold import BN_BIAS, BN_MEAN, BN_SCALE, BN_VAR, Chain, Folded, follow
from fetafix.graph.parameters import Pair, pairs
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

CODE = "wb-bn-param-swap"
_SLOTS = (BN_SCALE, BN_BIAS, BN_MEAN, BN_VAR)
_NAMES = ("γ", "β", "μ", "σ²")
_TELLING = 1e-2


def _rearranged(vectors: Sequence[Array]) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """Other readings of four vectors (γ, β, μ, σ²), those that move fewest first, with what each says."""
    gamma, beta, mean, var = vectors
    with np.errstate(all="ignore"):
        yield "σ stands in place of σ²", (gamma, beta, mean, np.square(var))
        yield "σ⁴ stands in place of σ²", (gamma, beta, mean, np.sqrt(var))
        yield "1/σ² stands in place of σ²", (gamma, beta, mean, 1 / var)
        yield "1/σ stands in place of σ²", (gamma, beta, mean, 1 / np.square(var))
    orders = [p for p in permutations(range(4)) if p != (0, 1, 2, 3)]
    for p in sorted(orders, key=lambda p: sum(i != j for i, j in enumerate(p))):
        moved = ", ".join(f"{_NAMES[j]} holds {_NAMES[i]}" for i, j in enumerate(p) if i != j)
        yield moved, tuple(vectors[j] for j in p)


def _edits(node: Node, old: Sequence[Array], new: Sequence[Array]) -> list[Edit]:
    return [SetInput(node.key, s, b.astype(a.dtype)) for s, a, b in zip(_SLOTS, old, new, strict=True) if b is not a]


def _makes(nodes: tuple[Node, ...], graph: Graph, start: Folded | None, wanted: Folded) -> bool:
    """Whether a chain that begins with `start` is `wanted`; the large weight is looked at last."""
    if start is None:
        made = Chain(nodes, graph).folded
        return made is not None and made.equals(wanted)
    tail = follow(Folded("affine", np.ones_like(start.bias), np.zeros_like(start.bias)), nodes, graph)
    if tail is None or not close(start.bias * tail.weight + tail.bias, wanted.bias):
        return False
    return close(start.weight * start.spread(tail.weight), wanted.weight)


def _explanation(pair: Pair, node: Node) -> tuple[str, list[Edit]] | None:
    """The rearrangement after which the target's chain is the source's."""
    graph, both = pair.target.graph, pair.folded
    vectors = [v for s in _SLOTS if (v := graph.constant(node, s)) is not None]
    start = Chain(pair.target.nodes[:1], graph).folded if pair.target.head is not None else None
    if both is None or len(vectors) != 4 or both[0].equals(both[1]):
        return None
    for how, new in _rearranged(vectors):
        if not np.isfinite(new[3]).all() or np.min(new[3]) < 0:
            continue
        changed = apply(graph, edits := _edits(node, vectors, new))
        nodes = tuple(changed.producers[n.key] for n in pair.target.nodes)
        if _makes(nodes, changed, start, both[1]):
            return how, edits
    return None


def detect(segment: Segment) -> Iterator[Suspicion]:
    """BatchNormalizations that agree with the source once their vectors are rearranged."""
    for pair in pairs(segment):
        for node in (n for n in pair.target.nodes if n.op == "BatchNormalization"):
            found = _explanation(pair, node)
            if found is not None:
                twin = next((n for n in pair.source.nodes if n.op == node.op), pair.source.nodes[0])
                yield Suspicion(CODE, node.key, twin.key, 0.97, {"swap": found[0]}, found[0], found[1])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The vectors in their slots."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """γ and β, or β and μ, change places; or σ is stored for σ²."""
    places = []
    for node in (n for n in graph.nodes if n.op == "BatchNormalization"):
        if any(node.input(s) not in graph.initializers for s in _SLOTS):
            continue
        gamma, beta, mean, var = vectors = [graph.initializers[node.input(s)] for s in _SLOTS]
        options = [(beta, gamma, mean, var), (gamma, mean, beta, var), (mean, beta, gamma, var)]
        if np.min(var) >= 0:
            options.append((gamma, beta, mean, np.sqrt(var)))
        places += [(node, vectors, new) for new in options
                   if any(not close(b, a, _TELLING) for a, b in zip(vectors, new, strict=True))]
    if not places:
        return None
    node, vectors, new = places[int(rng.integers(len(places)))]
    return _edits(node, vectors, new)


FAULT = FaultType(CODE, "BatchNorm parameters swapped", "WB", detect, propose, inject)
