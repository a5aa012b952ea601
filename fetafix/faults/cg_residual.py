"""A branch that joins the wrong tensor, or does not join at all.

*What goes wrong*
A converter loses track of a tensor name: the residual Add reads another tensor of the same shape, or is dropped and the
branch goes on alone. The same happens to the Mul of a gate and to Concat.

*How it shows*
Shapes are right, values are not. Between the same anchors the join reads a tensor whose twin the source's join does not
read; or the source has a join more.

*Repair*
Rewire the operand to the twin of what the source reads; insert the join that was lost, or remove the one too many. A
branch that nothing read any more is often gone from the file: it is written anew.

*When not to apply*
Layers are missing and no branch comes together in them (cg-unexplained).

*Seen in*
the category CG of arXiv 2312.15101
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.branches import lost
from fetafix.graph.constants import concrete
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.joins import insertions, joins, rewirings, spelled_out
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "cg-residual"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Compares what the joins of both sides read."""
    if segment.healed(segment.error):
        return
    ours, theirs = joins(segment.target), joins(segment.source)
    for twin in theirs:
        for node in (n for n in ours if n.op == twin.op):
            for edits, old, new in rewirings(segment, node, twin):
                error = segment.trial(edits)
                sure = sureness(segment, error)
                if sure:
                    yield Suspicion(
                        CODE, node.key, twin.key, sure, {"reads": old, "should_read": new, "error_after": error},
                        f"{node.label} joins {old} where the source joins the twin of {new}", [list(edits)])
    branches = [n for n in theirs if not spelled_out(segment.source, n)]
    for twin in branches if len(theirs) > len(ours) else ():
        error, found = best(segment, insertions(segment, twin))
        if found:
            yield Suspicion(
                CODE, segment.goal.target, twin.key, sureness(segment, error),
                {"missing": twin.op, "error_after": error},
                f"the source joins two branches by {twin.op} ({twin.label}), the target lacks that", found)
    for branch in lost(segment):
        error = segment.trial(branch.edits)
        if segment.healed(error):
            yield Suspicion(
                CODE, branch.at, branch.join.key, sureness(segment, error),
                {"missing": branch.join.op, "layers": len(branch.edits) - 1, "error_after": error},
                f"the source joins a branch by {branch.join.op} ({branch.join.label}) that the target does not compute",
                [list(branch.edits)])
    for node in ours if len(ours) > len(theirs) else ():
        error, found = best(segment, [[ed.RemoveNode(node.key, i)] for i in range(len(node.inputs))])
        if found and error < 0.1 * segment.error:
            yield Suspicion(
                CODE, node.key, None, sureness(segment, error), {"extra": node.op, "error_after": error},
                f"the target joins two branches by {node.op} ({node.label}), the source does not", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The rewiring, insertion or removal that detection tried."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A residual operand reads another earlier tensor of its shape, or the join is dropped."""
    able: list[list[Edit]] = []
    order = [*graph.input_names, *(n.key for n in graph.nodes)]
    for node in (n for n in joins(graph) if not spelled_out(graph, n)):
        before = order[:order.index(node.key)]
        for slot, old in enumerate(node.inputs):
            shape = concrete(graph, old)
            same = [t for t in before if t not in node.inputs and concrete(graph, t) == shape is not None]
            if same:
                able.append([ed.Rewire(node.key, slot, same[int(rng.integers(len(same)))])])
            if concrete(graph, old) == concrete(graph, node.key) and node.key not in graph.output_names:
                able.append([ed.RemoveNode(node.key, slot)])
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Branch joins the wrong tensor", "CG", detect, propose, inject)
