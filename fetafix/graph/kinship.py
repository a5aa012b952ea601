"""Whether a target is a conversion of the source at all: do its faulty layers hold the source's weights in any form?

Conversions move, scale, round and fold weights, faults damage them, yet something stays: the order-blind fingerprint,
or the direction of the channels. Another training run, another network, leaves neither. Told from weights alone, before
a single layer is diagnosed: to diagnose hundreds of layers of an unrelated network would take hours, and find nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.graph.fingerprint import distance, fingerprint, layouts, relate
from fetafix.graph.hypotheses import WEIGHTED
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node

_LEAST = 4  # layers: one or two foreign ones are faults
_WRONG = 0.3  # relative L2 error of a segment whose layers count
_TELLING = 16  # fewer values have a direction by chance
_DIRECTION = 0.5  # cosine; between unrelated layers it is about 1/√size, behind quantisation or noise above 0.9
_ALIKE, _ALIKE_CODED = 1e-4, 0.04


def unrelated(segments: Sequence[Segment], unmatched: Sequence[str], source: Graph, target: Graph) -> bool:
    """Whether at least half of the target's weighted layers are guilty, and akin to no layer of the source.

    segments: all guilty ones of the target. unmatched: tensors for which no counterpart was found. Depthwise kernels do
    not count where there are others: trained ones look much alike in all networks.
    """
    layers = _layers(target)
    needed = max(_LEAST, -(-len(layers) // 2))
    guilty = {n.key for s in segments if s.error > _WRONG for n in s.target.nodes}
    guilty |= {target.producers[t].key for t in unmatched if t in target.producers}
    suspects = [(n, w) for n, w in layers if n.key in guilty]
    if len(suspects) < needed:
        return False
    theirs = _Weights(source)
    strangers = 0
    for left, (node, weight) in zip(range(len(suspects), 0, -1), suspects, strict=True):
        if strangers + left < needed:
            return False
        strangers += not theirs.akin(weight, coded=_coded(target, node))
        if strangers >= needed:
            return True
    return False


def _layers(graph: Graph) -> list[tuple[Node, Array]]:
    """Weighted layers with their largest constant; without depthwise convolutions, unless they are most of them."""
    found = [(n, w) for n in graph.nodes if n.op in WEIGHTED and (w := _weight(graph, n)) is not None]
    dense = [(n, w) for n, w in found if not (n.op == "Conv" and n.attrs.get("group", 1) != 1 and w.shape[1:2] == (1,))]
    return dense if len(dense) >= _LEAST else found


def _weight(graph: Graph, node: Node) -> Array | None:
    held = [v for t in node.inputs if t and (v := graph.value_of(t)) is not None and v.dtype.kind == "f"]
    largest = max(held, key=lambda v: v.size, default=None)
    return largest if largest is not None and largest.size >= _TELLING else None


def _coded(graph: Graph, node: Node) -> bool:
    return any(graph.grid(t) is not None for t in node.inputs if t)


class _Weights:
    """The source's weights by element count."""

    def __init__(self, graph: Graph) -> None:
        self._by_size: dict[int, list[tuple[Array, Array]]] = {}
        names = {t for n in graph.nodes if n.op in WEIGHTED for t in n.inputs if t}
        for tensor in sorted(names):
            value = graph.value_of(tensor)
            if value is not None and value.dtype.kind == "f" and value.size >= _TELLING:
                self._by_size.setdefault(value.size, []).append((value, fingerprint(value)))

    def akin(self, weight: Array, coded: bool) -> bool:
        """Whether one of them is this weight in another order, scaled by channels, rounded or damaged."""
        own, most = fingerprint(weight), _ALIKE_CODED if coded else _ALIKE
        known = self._by_size.get(weight.size, [])
        if any(distance(own, other) < most for _, other in known):
            return True
        return any(_same_direction(weight, value) for value, _ in known)


def _same_direction(weight: Array, value: Array) -> bool:
    mine = np.asarray(weight, np.float32)
    for layout in layouts(value.shape, weight.shape):
        there = np.asarray(relate(value, layout, weight.shape), np.float32)
        if any(abs(_cosine(a, b)) > _DIRECTION for a, b in _scaled(mine, there)):
            return True
    return False


def _scaled(mine: Array, theirs: Array) -> Iterator[tuple[Array, Array]]:
    """Both weights as they are, and with every slice of the first or the last axis brought to one length."""
    yield mine, theirs
    for axis in {0, mine.ndim - 1} if mine.ndim > 1 else ():
        yield _normed(mine, axis), _normed(theirs, axis)


def _normed(value: Array, axis: int) -> Array:
    others = tuple(i for i in range(value.ndim) if i != axis)
    with np.errstate(all="ignore"):
        length = np.sqrt(np.sum(np.square(value), axis=others, keepdims=True))
        return np.asarray(value / np.maximum(length, np.float32(1e-30)))


def _cosine(a: Array, b: Array) -> float:
    x, y = a.reshape(-1), b.reshape(-1)
    with np.errstate(all="ignore"):
        found = float(np.dot(x, y)) / max(float(np.linalg.norm(x)) * float(np.linalg.norm(y)), 1e-30)
    return found if np.isfinite(found) else 0.0
