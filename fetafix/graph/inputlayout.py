"""The nodes at a graph input that only rearrange it, and what they do to the order of its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit, apply
from fetafix.errors import FetafixError
from fetafix.graph.constants import NCHW, NHWC, concrete
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Dim, Graph, Node

REARRANGING = frozenset({
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace", "SpaceToDepth",
})


def leading(graph: Graph, tensor: str) -> tuple[Node, ...]:
    """The chain of rearranging nodes from a tensor on, as long as nothing else reads what they read."""
    chain: list[Node] = []
    while True:
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0][0].op not in REARRANGING or readers[0][1] != 0:
            return tuple(chain)
        chain.append(readers[0][0])
        tensor = readers[0][0].key


def rearranged(graph: Graph, tensor: str, indices: Array, edits: Sequence[Edit] = ()) -> Array | None:
    """What arrives behind the leading chain when `indices` is fed; None where the chain cannot run on that shape."""
    try:
        edited = apply(graph, edits)
        chain = leading(edited, tensor)
        if not chain:
            return indices
        piece = edited.between([tensor], [chain[-1].key])
        (value,) = Evaluator().run(piece, {tensor: indices}, [chain[-1].key])
        return value
    except FetafixError:
        return None


def perm_of(source: Array, target: Array) -> tuple[int, ...] | None:
    """The permutation with target = source.transpose(perm), by values, else by shapes; None where neither fits.

    The identity comes first, then NHWC and NCHW.
    """
    if source.ndim != target.ndim:
        return None
    identity = tuple(range(source.ndim))
    perms = (identity, NHWC, NCHW, (0, 1, 3, 2))[:4 if source.ndim == 4 else 1]
    fitting = [p for p in perms if tuple(source.shape[i] for i in p) == target.shape]
    exact = (p for p in fitting if np.array_equal(source.transpose(p), target))
    return next(exact, fitting[0] if fitting else None)


def changes(graph: Graph, name: str) -> Iterator[list[Edit]]:
    """Edits of the leading nodes: one transposing otherwise (or instead of reshaping), some removed."""
    chain = leading(graph, name)[:4]
    for node in chain:
        before, after = (concrete(graph, t) for t in (node.input(0), node.key))
        if before is None or after is None or len(before) != len(after) or len(before) > 4:
            continue
        for perm in permutations(range(len(before))):
            if tuple(before[p] for p in perm) == after and perm != tuple(range(len(before))):
                same = node.op == "Transpose"
                yield [ed.SetAttribute(node.key, "perm", perm) if same else
                       ed.SetOperator(node.key, "Transpose", {"perm": perm}, (node.input(0),))]
    for size in range(1, len(chain) + 1):
        for some in combinations(chain, size):
            yield [ed.RemoveNode(n.key) for n in some]


def resized(ours: tuple[Dim, ...], theirs: tuple[Dim, ...]) -> tuple[tuple[int, ...], tuple[Dim, ...]] | None:
    """(perm, shape to declare) where the target's image shape has the source's channels and other extents."""
    for perm, channel in (((0, 1, 2, 3), 1), (NHWC, 3), (NCHW, 1), ((0, 1, 2, 3), 3)):
        wanted = tuple(theirs[p] for p in perm)
        extents = [i for i in (1, 2, 3) if i != channel]
        if ours[1:] == wanted[1:]:
            return None
        known = all(isinstance(s[i], int) for s in (ours, wanted) for i in (1, 2, 3))
        images = known and ours[channel] == wanted[channel] and ours[channel] in (1, 3, 4)
        if images and any(ours[i] != wanted[i] for i in extents):
            return perm, (ours[0], *wanted[1:])
    return None


def indices(site: Any, name: str) -> tuple[Array, Array] | None:
    """Index arrays for a target input: in the target's layout, and behind the source's leading nodes."""
    source = site.source_feeds[site.inputs[name]]
    perm = perm_of(source, site.target_feeds[name])
    if perm is None or source.ndim < 3:
        return None
    numbers = np.arange(source.size, dtype=np.int64).reshape(source.shape)
    arrived = rearranged(site.source, site.inputs[name], numbers)
    return None if arrived is None else (numbers.transpose(perm), arrived)


def straightened(site: Any, name: str) -> list[list[Edit]]:
    """All changes of the leading nodes after which an input's values arrive as in the source, the smallest first."""
    found = indices(site, name)
    if found is None:
        return []
    given, wanted = found
    good: list[list[Edit]] = []
    for candidate in changes(site.target, name):
        for perm in ((0, 1, 2, 3), NHWC, NCHW)[:3 if given.ndim == 4 else 1]:
            declared = given if given.ndim != 4 else given.transpose(perm)
            arrived = rearranged(site.target, name, declared, candidate)
            if arrived is not None and np.array_equal(arrived, wanted):
                old = next(v.shape for v in site.target.inputs if v.name == name)
                moved = old is not None and declared.shape != given.shape
                shape = tuple(old[p] for p in perm) if moved and old is not None else None
                good.append([*candidate, *([ed.SetInputShape(name, shape)] if shape else [])])
                break
    return sorted(good, key=lambda e: (any(isinstance(x, ed.SetInputShape) for x in e), ed.cost(site.target, e)))
