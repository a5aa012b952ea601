"""What no fault type explains: the guilty segment replaced by the source's.

*What goes wrong*
The target computes something else between two anchors, and it is none of the catalogue's mistakes.

*How it shows*
The segment introduces error, and no smaller edit heals it.

*Repair*
The source's sub-graph takes the place of the target's, with Transposes and Reshapes at its borders where the layouts
differ. The report calls it unexplained.

*When not to apply*
Any other repair heals; the source's sub-graph reads a tensor that has no twin in the target. A replacement of the whole
model is no repair.

*Seen in*
procedure R-sub of the fault catalogue; graph repair of arXiv 2312.15101
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import counterparts
from fetafix.graph.graft import graft
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "cg-unexplained"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Offers the replacement for every segment that is not healed."""
    if segment.healed(segment.error) or segment.goal.target not in segment.full.producers:
        return
    ops = [n.op for n in segment.target.nodes], [n.op for n in segment.source.nodes]
    yield Suspicion(
        CODE, segment.node.key, segment.goal.source, 0.05, {"target_ops": ops[0][:12], "source_ops": ops[1][:12]},
        f"between the same tensors the target computes {' → '.join(ops[0][:6]) or 'nothing'}, "
        f"the source {' → '.join(ops[1][:6]) or 'nothing'}; no known fault explains the difference")


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's nodes behind the last tensors on which both agree; then all of the source's segment."""
    anchors = {a.source for a in segment.anchors}
    for starts in ({*counterparts(segment), *anchors} - {segment.goal.source}, anchors):
        edit = graft(segment, starts)
        if edit is not None:
            yield [edit]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Something that no other fault type does: a tensor multiplied by a smooth random field."""
    able = [n for n in graph.nodes if n.op in ("Conv", "Relu", "Add", "Gemm") and n.key not in graph.output_names
            and len(dims := graph.shapes.get(n.key, ())) >= 2 and all(isinstance(d, int) for d in dims[1:])]
    if not able:
        return None
    node = able[int(rng.integers(len(able)))]
    shape = [d for d in graph.shapes[node.key][1:] if isinstance(d, int)]
    field = (1 + 0.5 * rng.standard_normal((1, *shape))).astype(np.float32)
    name, constant = like(graph, "Mul", node), tensor_like(graph, "scale", node)
    return [ed.InsertNode(node.key, Node("Mul", (node.key, constant), name[1:], {}, name[0]), {constant: field})]


FAULT = FaultType(CODE, "Unexplained difference", "CG", detect, propose, inject, safety="review")
