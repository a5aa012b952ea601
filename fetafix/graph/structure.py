"""Two graphs of the same model matched without names: by weights, by settings, by what surrounds each node.

Each node gets a colour: its operator, its settings and its constants, then, radius by radius, the colours around it
(Weisfeiler and Leman's refinement). Nodes of one colour that is unique in both graphs correspond; from there the match
spreads along connections that leave no choice. Three readings of the constants and settings are tried, strict ones
first, so that a difference here and there hides only itself:

    weights     operator, settings, and the constants bit by bit
    settings    operator, settings, and the constants' shapes
    shapes      operator and the constants' shapes
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fetafix.graph.attributes import canonical, defaults, version
from fetafix.graph.kernels import SPATIAL
from fetafix.graph.weights import moments
from fetafix.ir import Array, Body, Graph, Node

How = Literal["weights", "settings", "shapes"]

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"})
MANY = 8  # elements from which on a constant's values tell one layer from another
_READINGS: tuple[How, ...] = ("weights", "settings", "shapes")
_FAR = 64
_SURE = 6  # radii looked at even where the first ones tell all nodes of a graph apart
_NEAR = 2  # a smaller radius does not tell places apart that are told by structure alone
_INERT = frozenset({"momentum", "storage_order", "consumed_inputs", "is_test", "stash_type", "num_outputs"})
_SAME = 1e-5


def digest(value: Array) -> str:
    """SHA-256 of an array's dtype, shape and bytes; strings by their text."""
    text = value.dtype.kind in "OUST"
    data = repr(value.tolist()).encode() if text else np.ascontiguousarray(value).tobytes()
    return hashlib.sha256(f"{value.dtype.name}{list(value.shape)}".encode() + data).hexdigest()


@dataclass(frozen=True, eq=False, slots=True)
class Print:
    """A constant by its fingerprints: `digest`, shape, and `graph.weights.moments` where it holds numbers."""

    digest: str
    shape: tuple[int, ...]
    moments: Array | None = None

    def like(self, other: Print) -> bool:
        """Whether both are the same values in the same order, bit by bit or as far as float noise goes.

        The latter is told by the moments, relative to the values' own magnitude.
        """
        if self.digest == other.digest:
            return True
        x, y = self.moments, other.moments
        if self.shape != other.shape or x is None or y is None or not (np.isfinite(x).all() and np.isfinite(y).all()):
            return False
        extreme = max(abs(x[4]), abs(x[5]))
        scale = np.maximum([1.0, x[2], x[2], x[3], extreme, extreme], 1e-30)
        return bool((np.abs(x - y) <= _SAME * scale).all())


def fingerprint(value: Array) -> Print:
    """The fingerprints of an array."""
    numbers = value.dtype.kind in "fiub" or value.dtype.name == "bfloat16"
    return Print(digest(value), value.shape, moments(value) if numbers else None)


@dataclass(frozen=True)
class Outline:
    """A graph with fingerprints of its constants, by name, and without the shapes of what it computes.

    The graph of an outline that was read from a file may hold zeros in place of a constant; its fingerprints tell.
    """

    graph: Graph
    prints: Mapping[str, Print]


def outline(graph: Graph) -> Outline:
    """The outline of a graph whose constants are at hand."""
    return Outline(replace(graph, shapes={}), {k: fingerprint(v) for k, v in graph.initializers.items()})


def meaning(node: Node, graph: Graph) -> dict[str, Hashable]:
    """A node's settings with its operator set's defaults; sub-graphs are left out, arrays are their digests."""
    values = {**defaults(node.op, node.domain, version(graph, node)), **node.attrs}
    values = canonical(node, graph) if node.op in SPATIAL and not node.domain else values
    return {k: _plain(v) for k, v in sorted(values.items()) if k not in _INERT and not isinstance(v, Body)}


def _plain(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return digest(value)
    if isinstance(value, list):
        return tuple(value)
    return float(np.float32(value)) if isinstance(value, float) else value


@dataclass(slots=True)
class Correspondence:
    """Node key of the first graph → node key of the second, and the strictest reading in which both are alike."""

    nodes: dict[str, str] = field(default_factory=dict)
    how: dict[str, How] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.nodes


def correspondence(first: Outline, second: Outline) -> Correspondence:
    """Match the nodes of two graphs. What looks alike in several places, or in none, stays unmatched."""
    return _Matcher(first, second).run()


class _Matcher:
    def __init__(self, first: Outline, second: Outline) -> None:
        self._both = (first, second)
        self._ids: dict[Hashable, int] = {}
        self._base = [self._labels(o, "shapes") for o in self._both]
        self._taken: set[str] = set()
        self._found = Correspondence()

    def run(self) -> Correspondence:
        for reading in _READINGS:
            levels = self._levels(reading)
            for radius in reversed(range(len(levels))):
                self._unique(levels[radius], reading, radius)
        return self._found

    def _unique(self, colours: tuple[Mapping[str, int], Mapping[str, int]], reading: How, radius: int) -> None:
        """Match what has a colour of its own in both graphs, then spread."""
        open_ = [
            {k: c for k, c in colours[0].items() if k not in self._found},
            {k: c for k, c in colours[1].items() if k not in self._taken},
        ]
        counts = [Counter(o.values()) for o in open_]
        there = {c: k for k, c in open_[1].items()}
        for key, colour in open_[0].items():
            if counts[0][colour] == counts[1][colour] == 1 and (radius >= _NEAR or self._telling(key, reading)):
                self._match(key, there[colour])

    def _telling(self, key: str, reading: How) -> bool:
        """Whether a node's own weights tell it, without its surroundings."""
        graph = self._both[0].graph
        node = graph.producers[key]
        values = (graph.initializers.get(t) for t in node.inputs)
        return reading == "weights" and any(v is not None and v.dtype.kind == "f" and v.size >= MANY for v in values)

    def _match(self, key: str, other: str) -> None:
        """Note a match down, and those that follow from it."""
        queue = [(key, other)]
        while queue:
            a, b = queue.pop()
            if a not in self._found and b not in self._taken:
                self._found.nodes[a], self._found.how[a] = b, self._how(a, b)
                self._taken.add(b)
                queue += self._follows(a, b)

    def _how(self, a: str, b: str) -> How:
        nodes = [o.graph.producers[k] for o, k in zip(self._both, (a, b), strict=True)]
        alike = (r for r in _READINGS if _label(nodes[0], self._both[0], r) == _label(nodes[1], self._both[1], r))
        return next(alike, "shapes")

    def _follows(self, a: str, b: str) -> Iterator[tuple[str, str]]:
        """Neighbours of a matched pair that correspond without a choice."""
        first, second = (o.graph for o in self._both)
        one, two = first.producers[a], second.producers[b]
        if one.op not in COMMUTATIVE:
            for x, y in zip(one.inputs, two.inputs, strict=False):
                p, q = first.producers.get(x), second.producers.get(y)
                if p is not None and q is not None and self._alike(p, q) and _place(p, x) == _place(q, y):
                    yield p.key, q.key
        for x, y in zip(one.outputs, two.outputs, strict=False):
            groups = [self._readers(0, first, x), self._readers(1, second, y)]
            for label in groups[0].keys() & groups[1].keys():
                if len(groups[0][label]) == len(groups[1][label]) == 1:
                    yield groups[0][label][0], groups[1][label][0]

    def _readers(self, side: int, graph: Graph, tensor: str) -> dict[Hashable, list[str]]:
        """Unmatched readers of a tensor, by what they are and where they read it."""
        done = self._found.nodes if side == 0 else self._taken
        found: dict[Hashable, list[str]] = defaultdict(list)
        for node, slot in graph.consumers.get(tensor, ()) if tensor else ():
            if node.key not in done:
                found[self._base[side][node.key], _slot(node, slot)].append(node.key)
        return found

    def _alike(self, a: Node, b: Node) -> bool:
        unmatched = a.key not in self._found and b.key not in self._taken
        return unmatched and self._base[0][a.key] == self._base[1][b.key]

    def _levels(self, reading: How) -> list[tuple[dict[str, int], dict[str, int]]]:
        """Colours of both graphs by radius, until a larger one tells no more nodes apart."""
        one, two = (self._labels(o, reading) for o in self._both)
        levels = [(one, two)]
        while len(levels) <= _FAR:
            finer = self._refined(self._both[0].graph, one), self._refined(self._both[1].graph, two)
            stable = all(len({*f.values()}) == len({*c.values()}) for f, c in zip(finer, (one, two), strict=True))
            if stable and len(levels) > _SURE:
                break
            one, two = finer
            levels.append(finer)
        return levels

    def _labels(self, o: Outline, reading: How) -> dict[str, int]:
        return {n.key: self._id(("node", *_label(n, o, reading))) for n in o.graph.nodes}

    def _refined(self, graph: Graph, colours: Mapping[str, int]) -> dict[str, int]:
        """Colours that also tell what is around each node."""
        kinds = {v.name: ("input", v.dtype.name, len(v.shape or ())) for v in graph.inputs}
        outputs = set(graph.output_names)

        def made(tensor: str) -> Hashable:
            maker = graph.producers.get(tensor)
            return kinds.get(tensor) if maker is None else (colours[maker.key], _place(maker, tensor))

        finer = {}
        for node in graph.nodes:
            reads = [made(t) for t in node.inputs]
            reads = sorted(reads, key=repr) if node.op in COMMUTATIVE else reads
            served = [(t in outputs, sorted((colours[n.key], _slot(n, s)) for n, s in graph.consumers.get(t, ())))
                      for t in node.outputs]  # fmt: skip
            finer[node.key] = self._id((colours[node.key], repr(reads), repr(served)))
        return finer

    def _id(self, colour: Hashable) -> int:
        return self._ids.setdefault(colour, len(self._ids))


def _label(node: Node, o: Outline, reading: How) -> tuple[Hashable, ...]:
    """What a node is by itself, in a reading."""
    constants: list[Hashable] = []
    for tensor in _trimmed(node.inputs):
        value = o.graph.initializers.get(tensor)
        if value is None:
            constants.append("computed" if tensor else "")
        else:
            constants.append(o.prints[tensor].digest if reading == "weights" else (value.dtype.name, value.shape))
    if node.op in COMMUTATIVE:
        constants.sort(key=repr)
    settings = () if reading == "shapes" else tuple(meaning(node, o.graph).items())
    return node.domain, node.op, len(_trimmed(node.outputs)), tuple(constants), settings


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Without omitted ones at the end."""
    count = max((i + 1 for i, n in enumerate(names) if n), default=0)
    return names[:count]


def _place(node: Node, tensor: str) -> int:
    return node.outputs.index(tensor)


def _slot(node: Node, slot: int) -> int:
    """The slot as far as it matters."""
    return 0 if node.op in COMMUTATIVE else slot


def unlike(first: Outline, second: Outline) -> str:
    """How two graphs differ beyond names and the order of nodes, bit by bit; "" where they do not."""
    one, two = first.graph, second.graph
    found = correspondence(first, second)
    left = [n for n in one.nodes if n.key not in found]
    if left or len(one.nodes) != len(two.nodes):
        return f"{len(one.nodes)} operators against {len(two.nodes)}, {len(left)} of them without a counterpart" + (
            f" (first {left[0].op} {left[0].label})" if left else "")
    names = {x: y for a, b in found.nodes.items()
             for x, y in zip(one.producers[a].outputs, two.producers[b].outputs, strict=False)}  # fmt: skip
    for a, b in found.nodes.items():
        node, other = one.producers[a], two.producers[b]
        if _label(node, first, "weights") != _label(other, second, "weights"):
            return f"{node.op} {node.label} has other settings or constants"
        reads = [names.get(t, "") for t in _trimmed(node.inputs) if t in one.producers]
        theirs = [t for t in _trimmed(other.inputs) if t in two.producers]
        if (sorted(reads) != sorted(theirs)) if node.op in COMMUTATIVE else (reads != theirs):
            return f"{node.op} {node.label} reads other tensors"
    outputs = tuple(names.get(o, o) for o in one.output_names)
    return "" if outputs == two.output_names else "the outputs are others"
