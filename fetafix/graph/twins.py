"""Which node of the target's segment stands for which node of the source's, and in which layout it works.

Both segments are short chains or small branches in topological order, so pairing is a global alignment of two sequences
(Needleman & Wunsch 1970): the same operator scores, one of its family scores less, equal weights score most, and nodes
without a partner are skipped. Crossing pairs do not occur within a segment often enough to matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from fetafix.graph.segment import Segment
from fetafix.graph.weights import moments
from fetafix.ir import Array, Graph, Node

_FAMILIES = (
    {"Gemm", "MatMul"}, {"Clip", "Relu"}, {"LeakyRelu", "PRelu", "Elu", "Celu"}, {"Resize", "Upsample"},
    {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}, {"Add", "Sub"}, {"Mul", "Div"}, {"Softmax", "LogSoftmax"},
    {"GlobalAveragePool", "ReduceMean"}, {"Concat"}, {"HardSwish", "HardSigmoid"}, {"MaxPool", "AveragePool"},
)
_CODES = 0.03


_known: WeakKeyDictionary[Segment, list[tuple[Node, Node]]] = WeakKeyDictionary()


def _score(target: Node, source: Node, segment: Segment, weights: dict[str, Array]) -> float:
    """How well two nodes fit each other; 0 where they cannot be twins."""
    if (target.op, target.domain) == (source.op, source.domain):
        score = 4.0
    elif any(target.op in f and source.op in f for f in _FAMILIES):
        score = 2.0
    else:
        return 0.0
    ours, theirs = weights.get(f"t:{target.key}"), weights.get(f"s:{source.key}")
    if ours is not None and theirs is not None:
        score += 3.0 if _same(ours, theirs, segment) else 1.0 if ours[0] == theirs[0] else -1.0
    sizes = [g.shapes.get(n.key) for n, g in ((target, segment.target), (source, segment.source))]
    if all(s is not None for s in sizes) and sorted(map(str, sizes[0] or ())) == sorted(map(str, sizes[1] or ())):
        score += 0.5
    return score


def _same(ours: Array, theirs: Array, segment: Segment) -> bool:
    """Whether two moments are equal; those of codes up to what rounding moves."""
    if segment.allowed is None:
        return bool(np.allclose(ours, theirs, rtol=1e-4))
    return bool(ours[0] == theirs[0] and np.allclose(ours[2:], theirs[2:], rtol=_CODES))


def _weights(segment: Segment) -> dict[str, Array]:
    found = {}
    for side, graph in (("t", segment.target), ("s", segment.source)):
        for node in graph.nodes:
            weight = next((w for t in node.inputs[1:] if (w := graph.value_of(t)) is not None), None)
            if weight is not None:
                found[f"{side}:{node.key}"] = moments(weight)
    return found


def twins(segment: Segment) -> list[tuple[Node, Node]]:
    """Pairs (target node, source node) of a segment, in the target's order; nodes without a twin are left out."""
    if segment not in _known:
        _known[segment] = _pair(segment)
    return _known[segment]


def _pair(segment: Segment) -> list[tuple[Node, Node]]:
    ours, theirs, weights = segment.target.nodes, segment.source.nodes, _weights(segment)
    scores = np.array([[_score(t, s, segment, weights) for s in theirs] for t in ours]).reshape(len(ours), len(theirs))
    best = np.zeros((len(ours) + 1, len(theirs) + 1))
    for i in range(len(ours)):
        for j in range(len(theirs)):
            pair = best[i, j] + scores[i, j] if scores[i, j] > 0 else 0.0
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], pair)
    pairs: list[tuple[Node, Node]] = []
    i, j = len(ours), len(theirs)
    while i and j:
        if scores[i - 1, j - 1] > 0 and best[i, j] == best[i - 1, j - 1] + scores[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((ours[i], theirs[j]))
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def layout(segment: Segment, target: Node, source: Node) -> tuple[int, ...] | None:
    """The permutation under which the target node's tensor is its twin's, or None where both work in the same layout.

    Anchors tell how the tensors lie that enter the segment; Transposes on the way are followed on both sides. Where the
    trail is lost (a Reshape), the shapes decide if they allow only one answer, else the same layout is assumed.
    """
    ours = _trail(segment.target, target, {a.target: a.layout.perm for a in segment.anchors})
    theirs = _trail(segment.source, source, dict.fromkeys(a.source for a in segment.anchors))
    a, b = (g.shapes.get(n.input(0)) for n, g in ((target, segment.target), (source, segment.source)))
    if a is None or b is None or len(a) != len(b):
        return None
    same = tuple(range(len(b)))
    if ours is not None and theirs is not None:
        back = np.argsort(theirs or same)
        perm = tuple(int(back[p]) for p in (ours or same))
    else:
        perm = same if tuple(a) == tuple(b) else _only_permutation(a, b) or same
    fits = len(perm) == len(b) and tuple(b[p] for p in perm) == tuple(a)
    return perm if fits and perm != same else None


def _trail(graph: Graph, node: Node, anchors: dict[str, tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """The permutation from an anchor's source value to a node's input; () for none, None where the trail is lost."""
    tensor, perms = node.input(0), []
    while tensor not in anchors:
        maker = graph.producers.get(tensor)
        if maker is None:
            break
        if maker.op == "Transpose":
            perms.append(tuple(maker.attrs.get("perm", ())))  # type: ignore[arg-type]
        elif len(graph.shapes.get(maker.input(0), ())) != len(graph.shapes.get(maker.key, ())):
            return None
        tensor = maker.input(0)
    total: tuple[int, ...] = anchors.get(tensor) or ()
    for perm in reversed(perms):
        base = total or tuple(range(len(perm)))
        if len(base) != len(perm):
            return None
        total = tuple(base[p] for p in perm)
    return total


def _only_permutation(ours: Sequence[object], theirs: Sequence[object]) -> tuple[int, ...] | None:
    """The permutation that turns one shape into the other where exactly one does."""
    if sorted(map(str, ours)) != sorted(map(str, theirs)) or len(set(theirs)) != len(theirs):
        return None
    return tuple(list(theirs).index(d) for d in ours)
