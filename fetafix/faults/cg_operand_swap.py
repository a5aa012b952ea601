"""Operands of an operator that is not commutative exchanged.

*What goes wrong*
Sub, Div, Pow or MatMul get their inputs in the other order: frameworks put the constant or the weight on different
sides.

*How it shows*
The sign is flipped, or the reciprocal taken. Exchanging the two inputs of that node heals the segment.

*Repair*
The two inputs exchanged back.

*When not to apply*
Both operands hold the same values, or the shapes refuse the exchange.

*Seen in*
the category CG of arXiv 2312.15101; common in hand-written converters
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.constants import concrete
from fetafix.graph.counterparts import sureness
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "cg-operand-swap"
_ORDERED = frozenset({
    "Sub", "Div", "Pow", "MatMul", "Mod", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "BitShift", "PRelu",
})
_ALONE = 8  # operators without a twin in the source that are tried


def _exchange(node: Node) -> list[Edit]:
    a, b = node.inputs[:2]
    return [ed.Rewire(node.key, 0, b), ed.Rewire(node.key, 1, a)]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Exchanges the operands of every ordered operator; one that the source spells otherwise counts if that heals."""
    if segment.healed(segment.error):
        return
    theirs = {n.op: n for n in segment.source.nodes}
    ordered = [n for n in segment.target.nodes if n.op in _ORDERED and len(n.inputs) > 1 and n.inputs[0] != n.inputs[1]]
    for node in [n for n in ordered if n.op in theirs] + [n for n in ordered if n.op not in theirs][:_ALONE]:
        twin, error = theirs.get(node.op), segment.trial(_exchange(node))
        if segment.healed(error) or (twin is not None and error < 0.1 * segment.error):
            yield Suspicion(
                CODE, node.key, twin.key if twin else segment.goal.source, sureness(segment, error),
                {"op": node.op, "error_after": error},
                f"{node.label} computes {node.op}(a, b) where the source computes {node.op}(b, a)")


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The exchange."""
    yield _exchange(segment.full.node(str(suspicion.target)))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Exchange the operands of an ordered operator whose output keeps its shape."""
    able = []
    for node in graph.nodes:
        if node.op not in ("Sub", "Div", "Pow", "MatMul") or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        a, b = (concrete(graph, t) for t in node.inputs)
        if a is None or b is None:
            continue
        square = a == b and len(a) >= 2 and a[-1] == a[-2]
        if square if node.op == "MatMul" else np.broadcast_shapes(a, b) == concrete(graph, node.key):
            able.append(node)
    return _exchange(able[int(rng.integers(len(able)))]) if able else None


FAULT = FaultType(CODE, "Operands exchanged", "CG", detect, propose, inject)
