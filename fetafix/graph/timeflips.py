"""Reversals along an axis: Slice with a step of −1, ReverseSequence, Gather of falling indices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fetafix.edits import Edit
from fetafix.graph.counterparts import in_target_terms, put_behind, twin_of
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node


def flips(graph: Graph) -> list[Node]:
    """Nodes that reverse a computed tensor along an axis, in order."""
    return [n for n in graph.nodes if not n.domain and _flips(graph, n)]


def _flips(graph: Graph, node: Node) -> bool:
    if node.op == "ReverseSequence":
        return True
    if node.op == "Slice":
        steps = graph.constant(node, 4)
        return steps is not None and bool(np.any(steps == -1))
    indices = graph.constant(node, 1) if node.op == "Gather" else None
    return indices is not None and _falls(indices)


def _falls(indices: Array) -> bool:
    return indices.ndim == 1 and indices.size > 1 and bool(np.all(np.diff(indices) == -1))


def put_back(segment: Segment, twin: Node) -> Iterator[tuple[Node, list[Edit]]]:
    """Edits that reverse a target tensor as a node of the source reverses its twin, and the node behind which."""
    held = twin_of(segment, twin.input(0))
    if held is None or held.perm is not None:
        return
    near = segment.full.producers.get(held.tensor)
    names = {twin.input(0): held.tensor}
    names |= {t: w.tensor for t in twin.inputs[1:] if (w := twin_of(segment, t)) is not None}
    made = in_target_terms(segment, twin, names, None, segment.full, near)
    if made is not None:
        for edits in reversed(put_behind(segment, held.tensor, *made)):  # other layers may read it unturned
            yield near or segment.node, edits
