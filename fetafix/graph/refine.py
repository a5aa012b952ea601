"""Cut a guilty region into its operators where the two models' operators correspond one to one.

Faults next to each other hide in one region, since nothing between them equals the source. Where an operator of the
target reads twins of just what an operator of the same kind reads in the source, their outputs are twins too, by
structure; the region falls apart at them and each fault stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from fetafix.graph.hypotheses import Evidence, family
from fetafix.ir import Graph, Node


def pairs(
    target: Graph, source: Graph, twins: Mapping[str, str], evidence: Evidence, goal: tuple[str, str]
) -> list[tuple[str, str]]:
    """Tensor pairs inside a region, in the target's order, without the goal itself.

    target, source: the region's sub-graphs up to the goal pair. twins: target tensor → source tensor, known so far.
    """
    known = dict(twins)
    free = list(source.nodes)
    found: list[tuple[str, str]] = []
    complete = True
    for node in target.nodes:
        if node.key == goal[0]:
            continue
        twin = _twin(node, free, known, target, source, evidence, goal[1])
        if twin is None:
            complete = False
            continue
        free.remove(twin)
        for mine, theirs in zip(node.outputs, twin.outputs, strict=False):
            if mine and theirs:
                known[mine] = theirs
                found.append((mine, theirs))
    last, end = target.producers[goal[0]], source.producers.get(goal[1])
    whole = complete and end is not None and _reads(last, target, known) == sorted(_live(end, source))
    if whole:
        return found
    return [p for p in found if _arity(target.producers[p[0]], target) == _arity(source.producers[p[1]], source)]


def _twin(
    node: Node, free: list[Node], known: Mapping[str, str], target: Graph, source: Graph, evidence: Evidence, end: str
) -> Node | None:
    reads = _reads(node, target, known)
    if reads is None:
        return None
    fit = [
        m
        for m in free
        if family(m.op) == family(node.op)
        and end not in m.outputs
        and sorted(_live(m, source)) == reads
        and len(m.outputs) == len(node.outputs)
    ]
    return min(fit, key=lambda m: (not evidence.same_weights(node, m), m.op != node.op), default=None)


def _live(node: Node, graph: Graph) -> list[str]:
    return [t for t in node.inputs if t and not graph.fixed(t)]


def _reads(node: Node, graph: Graph, known: Mapping[str, str]) -> list[str] | None:
    """The source twins of what a node reads, sorted; None where one is unknown."""
    live = _live(node, graph)
    return sorted(known[t] for t in live) if live and all(t in known for t in live) else None


def _arity(node: Node, graph: Graph) -> int:
    return sum(graph.fixed(t) for t in node.inputs if t)
