"""The nodes at a graph input that only rearrange it, and what they do to the order of its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

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
