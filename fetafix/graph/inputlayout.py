"""The nodes at a graph input that only rearrange it, and what they do to the order of its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.errors import FetafixError
from fetafix.graph.constants import NCHW, NHWC
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Graph, Node

REARRANGING = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace", "SpaceToDepth"})


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
    perms = [p for p in (identity, NHWC, NCHW, (0, 1, 3, 2))[:4 if source.ndim == 4 else 1]]
    fitting = [p for p in perms if tuple(source.shape[i] for i in p) == target.shape]
    exact = (p for p in fitting if np.array_equal(source.transpose(p), target))
    return next(exact, fitting[0] if fitting else None)
