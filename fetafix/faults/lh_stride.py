"""Strides, kernels or groups of layers are others, or moved from one layer to the next.

*What goes wrong*
A stride is dropped, or two neighbours exchange theirs (ResNet v1 strides in the 1×1 convolution, v1.5 in the 3×3 one);
a pooling's window or a convolution's groups come from another table.

*How it shows*
Usually the shape changes at once. It stays where two changes make up for each other, or where global pooling takes up
any size: then the map between is sampled at other places.

*Repair*
Take over the source's strides, kernels and groups, of all layers of the segment that differ.

*When not to apply*
NO-OP: a stride that moved over 1×1 convolutions, or was written as a pooling of one pixel.

*Seen in*
the two published ResNet-50s, whose strides lie in different convolutions
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.compare import assign, keeps_shape
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.kernels import SPATIAL
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.graph.sizes import explicit, followers, made_size, vanishes
from fetafix.ir import Graph, Node

CODE = "lh-stride"
_NAMES = ("strides", "kernel_shape", "group")
_WITH_PADS = (*_NAMES, "pads")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other strides, windows or groups; all of a segment are taken together."""
    found = [s for s in settings(segment) if s.target.op in SPATIAL and s.target.op == s.source.op
             and set(_NAMES) & set(s.values)]
    ways = [[e for s in found for e in s.adopt(segment, [n for n in names if n in s.values])]
            for names in (_NAMES, _WITH_PADS)]
    ways += [s.adopt(segment, list(_WITH_PADS)) for s in found if len(found) > 1]
    error, tried = best(segment, [w for i, w in enumerate(ways) if w and (i != 1 or len(w) > len(ways[0]))])
    for setting in found if tried else ():
        own = {n: setting.values[n] for n in _WITH_PADS if n in setting.values}
        said = ", ".join(f"{n} is {_said(ours)}, in the source {_said(theirs)}" for n, (ours, theirs) in own.items())
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, sureness(segment, error, 0.96),
            {n: v for n, (v, _) in own.items()} | {f"source_{n}": v for n, (_, v) in own.items()}, said, tried)


def _said(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's values for all layers that differ, then with their pads."""
    return suspicion.data  # type: ignore[no-any-return]


def _exchanged(first: Node, graph: Graph) -> Iterator[list[Edit]]:
    """Strides of a layer exchanged with those of one behind it, where the size behind both stays."""
    dims, mine = shape(graph, first.input(0)), canonical(first, graph)
    between: list[Node] = []
    for other in followers(graph, first) if dims is not None and explicit(first, graph) else ():
        theirs = canonical(other, graph)
        if not explicit(other, graph):
            return
        wide = any(max(canonical(n, graph)["kernel_shape"]) > 1 for n in (*between, other))  # else a NO-OP
        if wide and theirs["strides"] != mine["strides"] and len(theirs["strides"]) == len(mine["strides"]):
            sizes = made_size(first, graph, (dims or ())[2:], theirs["strides"])
            for node in between:
                sizes = made_size(node, graph, sizes, canonical(node, graph)["strides"])
            made = shape(graph, other.key)
            if min(sizes) > 0 and made is not None and made_size(other, graph, sizes, mine["strides"]) == made[2:]:
                yield [*assign(first, graph, {"strides": theirs["strides"]}),
                       *assign(other, graph, {"strides": mine["strides"]})]
        between.append(other)


def _alone(node: Node, graph: Graph) -> Iterator[list[Edit]]:
    """Another stride where the size does not matter, or another window of a pooling that keeps it."""
    values = canonical(node, graph)
    dims, strides = shape(graph, node.input(0)), values.get("strides", ())
    if not explicit(node, graph) or dims is None or len(dims) != 4:
        return
    other = tuple(1 if s > 1 else 2 for s in strides)
    if min(made_size(node, graph, dims[2:], other)) > 1 and vanishes(graph, node.key):
        yield assign(node, graph, {"strides": other})
    window = {(3, 3): (2, 2), (2, 2): (3, 3)}.get(values["kernel_shape"])
    if window and node.op in ("MaxPool", "AveragePool"):
        for pads in ((0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)):
            if keeps_shape(node, graph, kernel_shape=window, pads=pads):
                yield assign(node, graph, {"kernel_shape": window, "pads": pads})
                return


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Two neighbours exchange strides; else a stride or a pooling's window is another."""
    nodes = [n for n in graph.nodes if n.op in SPATIAL and not n.domain]
    places = [e for n in nodes for e in _exchanged(n, graph)] or [e for n in nodes for e in _alone(n, graph) if e]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Stride, window or group of another layer", "LH", detect, propose, inject)
