"""Which target tensor may be the twin of which source tensor where values cannot tell, because they differ.

The evidence: the producers' weights (order-blind fingerprints), the weights of the operators that read the tensors, the
operator, whether the producers read twins, and how alike the values still are. It only orders the suppositions; whether
one stands is decided by what the target computes behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fetafix.graph.fingerprint import Index, distance, fingerprint, layouts
from fetafix.graph.rounding import quantised
from fetafix.graph.segment import Layout
from fetafix.graph.store import ActivationStore
from fetafix.ir import Array, Graph, Node

_WINDOW = 24
_NARROW, _EACH, _WIDE, _LAYOUTS = 5, 4, 30, 2
_SAME_WEIGHTS = 1e-4
_SAME_CODES = 0.04  # extremes move by up to half a step of 127, some values become zero
_REGION = 40
CHANNEL_MOVES = {(0, 2, 1), (0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 3, 4, 1), (0, 4, 1, 2, 3)}
WEIGHTED = {"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN",
            "Gather", "QLinearConv", "MatMulInteger"}
_FAMILIES = (
    {"Conv", "FusedConv"},
    {"Gemm", "MatMul", "FusedGemm", "FusedMatMul"},
    {
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "HardSwish",
        "HardSigmoid",
        "Sigmoid",
        "Gelu",
        "Mish",
        "ThresholdedRelu",
    },
    {"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "LpPool"},
    {"Add", "Sum", "Sub"},
    {"Mul", "Div"},
    {"Resize", "Upsample"},
)


def family(op: str) -> str:
    """Operators that stand for one another in conversions share a family."""
    return next((min(f) for f in _FAMILIES if op in f), op)


class TwinLike(Protocol):
    """Anything that names a source tensor and a layout (a walk's twin)."""

    @property
    def source(self) -> str:
        """The source tensor's name."""
        ...

    @property
    def layout(self) -> Layout:
        """How the target tensor holds it."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Suppose that target tensor and source tensor are twins. structural: the graphs alone say so already."""

    target: str
    source: str
    layout: Layout
    shape: tuple[int, ...] | None
    score: float
    structural: bool


class _Regions:
    """What a tensor is computed from since the last twins: those twins, and the operators that carry weights."""

    def __init__(self, source: Graph, target: Graph, twins: Mapping[str, TwinLike]) -> None:
        self._source, self._target = source, target
        self._twins = {t: w.source for t, w in twins.items()}
        self._known = set(self._twins.values())
        self._seen: dict[tuple[bool, str], tuple[frozenset[str], tuple[str, ...]]] = {}

    def alike(self, target: str, source: str) -> float:
        """Up to 1.5 for the same twins upstream, and 1 for the same weighted operators in between."""
        mine, core = self._region(True, target)
        theirs, other = self._region(False, source)
        shared = len(mine & theirs) / max(len(mine | theirs), 1)
        return 1.5 * shared + 1.0 * (core == other and bool(core) and shared > 0)

    def anchors(self, target: str) -> frozenset[str]:
        """The source twins of what a target tensor is computed from."""
        return self._region(True, target)[0]

    def _region(self, target: bool, tensor: str) -> tuple[frozenset[str], tuple[str, ...]]:
        key = (target, tensor)
        if key not in self._seen:
            self._seen[key] = self._trace(self._target if target else self._source, tensor, target)
        return self._seen[key]

    def _trace(self, graph: Graph, tensor: str, target: bool) -> tuple[frozenset[str], tuple[str, ...]]:
        found, core, seen = set[str](), list[str](), set[str]()
        stack = [tensor]
        while stack and len(seen) < _REGION:
            node = graph.producers.get(stack.pop())
            if node is None or node.key in seen or node.op in ("Shape", "Size"):
                continue
            seen.add(node.key)
            if node.op in WEIGHTED:
                core.append(family(node.op))
            for read in node.reads:
                twin = self._twins.get(read) if target else (read if read in self._known else None)
                if twin is not None:
                    found.add(twin)
                elif read in graph.producers:
                    stack.append(read)
        return frozenset(found), tuple(sorted(core))


class Evidence:
    """Scores pairs of tensors. Weights are fingerprinted once."""

    def __init__(self, source: Graph, target: Graph, values: ActivationStore, index: Index) -> None:
        self.source, self.target = source, target
        self._values, self._index = values, index
        self._weights: dict[tuple[int, str], list[Array]] = {}
        self._alike_up_to = _SAME_CODES if quantised(source) or quantised(target) else _SAME_WEIGHTS

    def telling(self, node: Node) -> bool:
        """Whether equality behind this node proves something: it has weights of its own, or joins several tensors."""
        live = [t for t in dict.fromkeys(node.inputs) if t and not self.target.fixed(t)]
        return len(live) > 1 or bool(self.weights(self.target, node))

    def weights(self, graph: Graph, node: Node) -> list[Array]:
        """Fingerprints of a node's weight tensors (floats with more than one value)."""
        key = (id(graph), node.key)
        if key not in self._weights:
            tensors = [w for t in node.inputs if (w := graph.value_of(t)) is not None]
            kept = [w for w in tensors if w.dtype.kind in "fV" or w.dtype.itemsize == 1]
            self._weights[key] = [
                np.concatenate([[w.size], fingerprint(w)]) for w in kept if w.size > 1 and w.min() != w.max()
            ]
        return self._weights[key]

    def unlike(self, node: Node | None, source: str, twins: Mapping[str, TwinLike]) -> tuple[int, int, int]:
        """How ill two producers of equal values go together: sort key, smaller is better."""
        twin = self.source.producers.get(source)
        if node is None or twin is None:
            return (2, 1, self._index.order[source])
        read = {twins[t].source for t in node.inputs if t in twins}
        return (family(node.op) != family(twin.op), not read & set(twin.inputs), self._index.order[source])

    def hypotheses(
        self,
        cone: Sequence[str],
        twins: Mapping[str, TwinLike],
        values: Mapping[str, Array],
        outputs: Mapping[str, str],
        wide: bool,
    ) -> list[Hypothesis]:
        """Suppositions for the open tensors `cone`, best first; `wide` looks further and tries more."""
        used = {t.source for t in twins.values()}
        found: list[Hypothesis] = []
        regions = _Regions(self.source, self.target, twins)
        for depth, target in enumerate(cone):
            value = values.get(target)
            own = None if value is None else fingerprint(value)
            pairs: list[Hypothesis] = []
            for source in self._candidates(target, value, regions.anchors(target), wide, outputs):
                score, structural = self._score(target, source, own, twins, used, regions)
                weak = score < (0.5 if wide else 1.5) and not self._superfluous(target, source, twins)
                if weak and target not in outputs:
                    continue
                for layout, shape in self.layouts(target, source, value, twins)[: _LAYOUTS if wide else 1]:
                    usual = layout.perm is None or layout.perm in CHANNEL_MOVES
                    likely = score - 0.02 * depth - (0.0 if usual else 1.0)
                    pairs.append(Hypothesis(target, source, layout, shape, likely, structural))
            pairs.sort(key=lambda h: -h.score)
            most = _EACH if wide else _NARROW
            found += [h for i, h in enumerate(pairs) if i < most or self._superfluous(target, h.source, twins)]
        found.sort(key=lambda h: -h.score)
        return [h for i, h in enumerate(found) if i < _WIDE or h.target in outputs]  # what is bound is no guess

    def _candidates(
        self, target: str, value: Array | None, near: frozenset[str], wide: bool, outputs: Mapping[str, str]
    ) -> list[str]:
        """Source tensors of the right size about the anchors `near`: behind the last of them, and from the first on."""
        if target in outputs:
            return [outputs[target]]
        first, last = (pick((self._index.order[a] for a in near), default=0) for pick in (min, max))
        names = list(self._index.order) if value is None else self._index.of_size(value.size)
        inputs = set(self.source.input_names)  # what differs at the input shows at the first operator behind it
        free = [n for n in names if n not in inputs]
        after = [n for n in free if self._index.order[n] >= last]
        before = [n for n in free if first <= self._index.order[n] < last]
        many = _WINDOW * (3 if wide else 1)
        return [*after[:many], *before[-many:]]

    def _score(
        self,
        target: str,
        source: str,
        own: Array | None,
        twins: Mapping[str, TwinLike],
        used: set[str],
        regions: _Regions,
    ) -> tuple[float, bool]:
        node, twin = self.target.producers[target], self.source.producers.get(source)
        score = 0.0
        structural = False
        if twin is not None:
            same_op = family(node.op) == family(twin.op)
            weights = self.same_weights(node, twin)
            live = [t for t in node.inputs if t and not self.target.fixed(t)]
            reads = bool(live) and all(t in twins and twins[t].source in twin.inputs for t in live)
            score += 1.0 * same_op + 2.5 * (weights and same_op) + regions.alike(target, source)
            structural = same_op and (reads or weights) and source not in used
        score += 2.5 * self._same_readers(target, source)
        if own is not None:
            score += 2.0 * self._alike(own, source)
        if source in used:  # a superfluous operator's output should equal its input's twin
            score -= 0.2 if self._superfluous(target, source, twins) else 1.0
        return score, structural

    def _superfluous(self, target: str, source: str, twins: Mapping[str, TwinLike]) -> bool:
        """Whether the supposition is that the target should not have this operator at all."""
        return source in {twins[t].source for t in self.target.producers[target].inputs if t in twins}

    def same_weights(self, node: Node, twin: Node) -> bool:
        """Whether the largest weights of two nodes have equal fingerprints."""
        a, b = self.weights(self.target, node), self.weights(self.source, twin)
        if not a or not b:
            return False
        a0, b0 = max(a, key=lambda f: float(f[0])), max(b, key=lambda f: float(f[0]))
        return bool(a0[0] == b0[0]) and distance(a0[1:], b0[1:]) < self._alike_up_to

    def _same_readers(self, target: str, source: str) -> bool:
        """Whether an operator with the same weights reads both tensors."""
        mine = [n for n, _ in self.target.consumers.get(target, ()) if self.weights(self.target, n)]
        theirs = [n for n, _ in self.source.consumers.get(source, ()) if self.weights(self.source, n)]
        return any(family(a.op) == family(b.op) and self.same_weights(a, b) for a in mine for b in theirs)

    def _alike(self, own: Array, source: str) -> float:
        """1 for equal fingerprints down to 0 for strangers: values survive small errors nearly unchanged."""
        off = distance(own, self._index.prints[source])
        return max(0.0, 1.0 - 2.0 * off) if np.isfinite(off) else 0.0

    def layouts(
        self, target: str, source: str, value: Array | None, twins: Mapping[str, TwinLike]
    ) -> list[tuple[Layout, tuple[int, ...]]]:
        """The layouts a twin could have, with its shape: first that of the producer's own inputs, where it fits."""
        shape = self._values[source].shape
        wanted = [twins[t].layout for t in self.target.producers[target].inputs if t in twins]
        if value is None:
            perms = [w.perm for w in wanted if w.perm and len(w.perm) == len(shape)]
            moved = [(Layout(p), tuple(shape[i] for i in p)) for p in perms]
            return [*moved, (Layout(), shape)]
        allowed = list(layouts(shape, value.shape))
        first = [w for w in wanted if w in allowed and (w.perm is None or w.perm in CHANNEL_MOVES)][:1]
        found = [(w, value.shape) for w in dict.fromkeys([*first, *allowed])]
        usual = {w.perm for w in wanted if w.perm in CHANNEL_MOVES and len(w.perm or ()) == len(shape)}
        kept = ((Layout(p), tuple(shape[i] for i in p)) for p in usual if p is not None)
        return [*found, *(m for m in kept if m[1] != value.shape and m[0] not in allowed)]  # a reduction kept its axes
