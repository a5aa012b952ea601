"""A Transpose is spurious, missing or has a wrong permutation.

*What goes wrong*
A converter leaves a Transpose of its layout conversion behind, removes one that was needed, or merges two wrongly.
Where dimensions are equal no shape tells.

*How it shows*
The segment's value is the source's, transposed; or removing, changing or inserting one Transpose heals the segment.

*Repair*
Remove the Transpose, correct its permutation, or insert the missing one.

*When not to apply*
The net permutation between anchors is the layout difference of the two models. NO-OP: only axes of size 1 move.

*Seen in*
onnx#2446, onnxmltools#719, onnx2tf#125, onnx2tf#418
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Graph, Node

CODE = "tss-transpose"
_MOST_RANK = 5
_MOST_TRIALS = 80
_EQUAL = 1e-3


def _perms(dims: Sequence[int], out: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """Permutations of a shape into another (itself by default) that move values, few moved axes first."""
    rank, wanted = len(dims), tuple(dims if out is None else out)
    if not 2 <= rank <= _MOST_RANK:
        return []
    found = [p for p in permutations(range(rank)) if tuple(dims[i] for i in p) == wanted]
    found = [p for p in found if [i for i in p if dims[i] > 1] != [i for i in range(rank) if dims[i] > 1]]
    return sorted(found, key=lambda p: sum(i != j for i, j in enumerate(p)))


def _transpose(tensor: str, perm: tuple[int, ...], consumers: tuple[tuple[str, int], ...] | None = None) -> Edit:
    made = f"{tensor}_transposed"
    return InsertNode(tensor, Node("Transpose", (tensor,), (made,), {"perm": perm}, made), consumers=consumers)


def _candidates(segment: Segment) -> Iterator[tuple[str, str, list[Edit]]]:
    """(node key, what it does, edits): removals and corrections of Transposes, then insertions."""
    graph = segment.target
    for node in (n for n in graph.nodes if n.op == "Transpose"):
        dims, out = shape(graph, node.input(0)), shape(graph, node.key)
        if dims is None or out is None:
            continue
        yield node.key, "is one too many", [RemoveNode(node.key)]
        old = canonical(node, graph)["perm"]
        runs = segment.actual is not None
        perms = _perms(dims, out) if runs else [p for p in permutations(range(len(dims))) if len(dims) <= 4]
        for perm in (p for p in perms if p != old):
            yield node.key, f"should be {list(perm)}", [SetAttribute(node.key, "perm", perm)]
    actual = segment.actual
    for perm in [] if actual is None else _perms(actual.shape, segment.expected.shape):
        if actual is not None and relative_error(actual.transpose(perm), segment.expected) < _EQUAL:
            yield segment.node.key, f"lacks a Transpose {list(perm)} behind it", [_transpose(segment.goal.target, perm)]
    for tensor in segment.feeds:
        readers = tuple((n.key, slot) for n, slot in graph.consumers.get(tensor, ()) if slot >= 0)
        for perm in _perms(segment.feeds[tensor].shape) if readers else []:
            yield readers[0][0], f"lacks a Transpose {list(perm)} of its input", [_transpose(tensor, perm, readers)]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Tries the candidates, boundedly; the one that heals is the suspicion."""
    for tried, (key, what, edits) in enumerate(_candidates(segment)):
        if tried >= _MOST_TRIALS:
            return
        error = segment.trial(edits)
        if segment.healed(error) or error < _EQUAL * min(segment.error, 1.0):
            yield Suspicion(CODE, key, segment.goal.source, 0.94, {"error_after": error}, f"{key} {what}", edits)
            return


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The Transpose removed, corrected or inserted."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Transpose between equal dimensions is inserted, removed, or gets another permutation of the same shape."""
    places: list[list[Edit]] = []
    for node in graph.nodes:
        dims, out = shape(graph, node.input(0)), shape(graph, node.key)
        if dims is None or out is None:
            continue
        flattened = any(reader.op in ("Flatten", "Reshape") for reader, _ in graph.consumers.get(node.key, ()))
        if node.op == "Transpose" and not flattened:  # before a Flatten it is tss-flatten-order
            old = canonical(node, graph)["perm"]
            places += [[SetAttribute(node.key, "perm", p)] for p in _perms(dims, out) if p != old]
            if dims == out and old in _perms(dims):
                places.append([RemoveNode(node.key)])
        elif len(dims) == 4 and node.op in ("Conv", "MaxPool", "AveragePool") and node.input(0) in graph.producers:
            places += [[_transpose(node.input(0), p, ((node.key, 0),))] for p in _perms(dims) if p[0] == 0]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Transpose spurious, missing or wrong", "TSS", detect, propose, inject)
