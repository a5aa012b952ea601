"""Cut a guilty region into its operators where the two models' operators correspond one to one.

Faults next to each other hide in one region, since nothing between them equals the source. Where an operator of the
target reads twins of just what an operator of the same kind reads in the source, their outputs are twins too, by
structure; the region falls apart at them and each fault stands alone. A layer with all that is folded into it, or that
could be, counts as one operator. Where what is read says nothing, weights that occur once on each side do; and of
operators that join branches one that is wrong, or one wrong operand, still leaves the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fetafix.graph.fold import chains
from fetafix.graph.hypotheses import Evidence, family
from fetafix.graph.norms import centres
from fetafix.graph.units import units
from fetafix.ir import Graph, Node

_AFFINE = "affine"


@dataclass(frozen=True, eq=False, slots=True)
class _Unit:
    """One operator, a linear layer with the affine nodes behind it, or a gate x · f(x). kind: what must be alike."""

    nodes: tuple[Node, ...]
    kind: str
    linear: bool

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.nodes[-1].outputs

    @property
    def ops(self) -> list[str]:
        return [n.op for n in self.nodes]


def _units(graph: Graph) -> list[_Unit]:
    """A region's operators in order, each chain as one, at the place of its first node."""
    by_node = {n.key: c for c in chains(graph) for n in c.nodes}
    gates = {n.key: u for u in units(graph) if len(u.nodes) > 1 for n in u.nodes}
    found = []
    for node in graph.nodes:
        chain, gate = by_node.get(node.key), gates.get(node.key)
        if gate is not None:
            found += [_Unit(gate.nodes, family(node.op), False)] if gate.nodes[0] is node else []
        elif chain is None:
            found.append(_Unit((node,), family(node.op), False))
        elif chain.nodes[0] is node:
            found.append(_Unit(chain.nodes, _AFFINE if chain.head is None else family(node.op), True))
    return found


def pairs(
    target: Graph, source: Graph, twins: Mapping[str, str], evidence: Evidence, goal: tuple[str, str]
) -> list[tuple[str, str]]:
    """Tensor pairs inside a region, in the target's order, without the goal itself.

    target, source: the region's sub-graphs up to the goal pair. twins: target tensor → source tensor, known so far.
    """
    known, sure = dict(twins), set[str]()
    free, own = _units(source), _units(target)
    ends = [u for units, tensor in ((own, goal[0]), (free, goal[1])) for u in units if tensor in u.outputs]
    if len({u.kind for u in ends}) < 2:  # else the target's last operator may be one too many, or another
        free = [u for u in free if u not in ends]
    complete = True
    for unit in (u for u in own if u not in ends):
        twin = (_twin(unit, free, known, target, source, evidence) or _by_weights(unit, free, target, evidence)
                or _join(unit, free, known, target, source))
        if twin is None:
            complete = False
            continue
        free.remove(twin)
        if _interrupted(unit, twin, own, evidence):
            rest = _Unit(twin.nodes[len(unit.nodes):], _AFFINE, True)
            twin = _Unit(twin.nodes[:len(unit.nodes)], twin.kind, True)
            free.append(rest)
        same = unit.ops == twin.ops
        for ours, theirs in zip(unit.nodes, twin.nodes, strict=True) if same else [(unit.nodes[-1], twin.nodes[-1])]:
            known.update((a, b) for a, b in zip(ours.outputs, theirs.outputs, strict=False) if a and b)
        sure |= {o for o in unit.outputs if unit.linear and twin.linear}
    found = [(t, known[t]) for n in target.nodes for t in n.outputs if t in known and t not in twins]
    last, origin = target.producers[goal[0]], source.producers.get(goal[1])
    if complete and origin is not None and _reads(last, target, known) == sorted(_live(origin, source)):
        return found
    return [p for p in found if p[0] in sure
            or _arity(target.producers[p[0]], target) == _arity(source.producers[p[1]], source)]


def _interrupted(unit: _Unit, twin: _Unit, own: list[_Unit], evidence: Evidence) -> bool:
    """Whether the target has the rest of a chain too, behind something that came in between: then nothing is folded."""
    rest = twin.nodes[len(unit.nodes):]
    if not rest or twin.ops[:len(unit.nodes)] != unit.ops:
        return False
    return any(u.kind == _AFFINE and u.first.op == rest[0].op and evidence.same_weights(u.first, rest[0]) for u in own)


def _twin(
    unit: _Unit, free: list[_Unit], known: Mapping[str, str], target: Graph, source: Graph, evidence: Evidence
) -> _Unit | None:
    reads = _reads(unit.first, target, known)
    if reads is None:
        return None
    fit = [u for u in free if u.kind == unit.kind and sorted(_live(u.first, source)) == reads
           and len(u.outputs) == len(unit.outputs)]
    return min(fit, key=lambda u: (not evidence.same_weights(unit.first, u.first),
                                   not _same_numbers(unit.first, u.first, target, source), u.ops != unit.ops),
               default=None)


def _by_weights(unit: _Unit, free: list[_Unit], target: Graph, evidence: Evidence) -> _Unit | None:
    """The one unit of the source with the same weights, where no other node of the target has them too."""
    fit = [u for u in free if u.kind == unit.kind and u.linear and evidence.same_weights(unit.first, u.first)]
    if len(fit) != 1 or not unit.linear:
        return None
    alike = [n for n in target.nodes if n.op == unit.first.op and evidence.same_weights(n, fit[0].first)]
    return fit[0] if len(alike) == 1 else None


def _join(
    unit: _Unit, free: list[_Unit], known: Mapping[str, str], target: Graph, source: Graph
) -> _Unit | None:
    """The one unit of the source that joins the same tensors by another operator, or in part others by the same."""
    ours = {known[t] for t in _live(unit.first, target) if t in known}
    if len(set(_live(unit.first, target))) < 2 or not ours or centres(unit.first, target):  # x·x joins nothing
        return None
    theirs = [(u, reads) for u in free if len(reads := set(_live(u.first, source))) > 1]
    same = [u for u, reads in theirs if reads == ours]
    near = [u for u, reads in theirs if reads & ours and u.kind == unit.kind]
    return next((found[0] for found in (same, near) if len(found) == 1), None)


def _same_numbers(node: Node, twin: Node, target: Graph, source: Graph) -> bool:
    """Whether the whole numbers among two nodes' constants are the same: indices, axes, sizes tell what is taken."""
    ours, theirs = ([v for t in n.inputs if (v := g.value_of(t)) is not None and v.dtype.kind in "iu"]
                    for n, g in ((node, target), (twin, source)))
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _live(node: Node, graph: Graph) -> list[str]:
    return [t for t in node.inputs if t and not graph.fixed(t)]


def _reads(node: Node, graph: Graph, known: Mapping[str, str]) -> list[str] | None:
    """The source twins of what a node reads, sorted; None where one is unknown."""
    live = _live(node, graph)
    return sorted(known[t] for t in live) if live and all(t in known for t in live) else None


def _arity(node: Node, graph: Graph) -> int:
    return sum(graph.fixed(t) for t in node.inputs if t)
