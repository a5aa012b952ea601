"""Heads are split or merged by a Reshape without the Transpose.

*What goes wrong*
(batch, length, width) becomes (batch, heads, length, width/heads) by Reshape and Transpose; a converter that merges or
drops the Transpose reshapes straight to the same shape, and mixes tokens with heads.

*How it shows*
Shapes are right; every head reads pieces of other tokens. Of one head or one token nothing shows.

*Repair*
Reshape as the source does, and transpose.

*When not to apply*
NO-OP: one head, or a length of 1. A Transpose that is lost elsewhere is tss-transpose.

*Seen in*
category TSS of arXiv 2312.15101, in attention; common knowledge
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import shape
from fetafix.graph.constants import constant
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.gates import RECURRENT
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node

CODE = "tss-head-split"
_RANK = 4  # batch, heads, length, width of a head


def _spec(node: Node, dims: Sequence[int], entering: Sequence[int]) -> Array:
    """A Reshape's constant that makes `dims`: 0 where a dimension stays, −1 for another one that may vary."""
    if node.attrs.get("allowzero"):
        return np.array([-1, *dims[1:]], np.int64)
    made = [0 if i < len(entering) and entering[i] == d else d for i, d in enumerate(dims)]
    moved = next((i for i, d in enumerate(made) if d and d in entering[:-1]), None)
    return np.array([-1 if i == moved else d for i, d in enumerate(made)], np.int64)


def _moves(graph: Graph, around: Graph) -> Iterator[tuple[Node, Node, bool]]:
    """(Reshape, Transpose, whether the Reshape comes first) where the two stand together and split or merge heads."""
    for node in graph.nodes:
        if node.op != "Transpose":
            continue
        before = graph.producers.get(node.input(0))
        behind = [n for n, _ in around.consumers.get(node.key, ())]
        if len(shape(around, node.key) or ()) != _RANK:
            continue
        if before is not None and before.op == "Reshape":
            yield before, node, True
        elif len(behind) == 1 and behind[0].op == "Reshape":
            yield behind[0], node, False


def _swaps(graph: Graph, node: Node) -> bool:
    dims, perm = shape(graph, node.input(0)), node.attrs.get("perm")
    real = [p for p in perm if isinstance(p, int) and dims and dims[p] != 1] if isinstance(perm, tuple) else []
    return real != sorted(real)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """A Reshape of the target that does alone what a Reshape and a Transpose do in the source."""
    known = [t for t, _, _ in _moves(segment.full, segment.full)]
    for node in (n for n in segment.target.nodes if n.op == "Reshape" and n not in known):
        for theirs, transpose, first in _moves(segment.source, segment.source):
            edits = _restored(segment, node, theirs, transpose, first)
            error, found = best(segment, [edits] if edits else [])
            if found and segment.healed(error):
                perm = list(transpose.attrs["perm"])  # type: ignore[arg-type]
                yield Suspicion(CODE, node.key, transpose.key, sureness(segment, error, 0.97),
                                {"perm": perm, "error_after": error},
                                f"{node.label} reshapes without the source's Transpose {perm}", found)
                break


def _restored(segment: Segment, node: Node, theirs: Node, transpose: Node, first: bool) -> list[Edit]:
    graph, perm = segment.full, transpose.attrs.get("perm")
    inside, entering = shape(segment.source, transpose.input(0)), shape(graph, node.input(0))
    if not isinstance(perm, tuple) or inside is None or entering is None:
        return []
    label, out = like(graph, "Transpose", node)
    if first:
        made = Node("Transpose", (node.key,), (out,), {"perm": perm}, label)
        return [SetInput(node.key, 1, _spec(node, inside, entering)), InsertNode(node.key, made)]
    if entering != inside:
        return []
    made = Node("Transpose", (node.input(0),), (out,), {"perm": perm}, label)
    return [InsertNode(node.input(0), made, consumers=((node.key, 0),))]


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Reshape and Transpose as in the source."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The Transpose is dropped; the Reshape makes the same shape at once."""
    able: list[list[Edit]] = []
    for reshape, transpose, first in _moves(graph, graph):
        end = transpose.key if first else reshape.key
        dims, entering = shape(graph, end), shape(graph, reshape.input(0) if first else transpose.input(0))
        alone = len(graph.consumers.get(reshape.key if first else transpose.key, ())) == 1
        if not _swaps(graph, transpose) or dims is None or entering is None or not alone or end in graph.output_names:
            continue
        maker = graph.producers.get(transpose.input(0))
        if constant(graph, reshape, 1) is not None and (maker is None or maker.op not in RECURRENT):
            able.append([SetInput(reshape.key, 1, _spec(reshape, dims, entering)), RemoveNode(transpose.key)])
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Heads split without a Transpose", "TSS", detect, propose, inject)
