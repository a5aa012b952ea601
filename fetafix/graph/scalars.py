"""Hyper-parameters that an operator has as attributes, and its spelled-out form as single numbers among constants.

A HardSigmoid with α = 1/6 is Mul by 1/6, Add, Clip elsewhere; an LRN's k is an Add. Where the forms differ, names do
not tell which number is which, but a trial does: put the source's numbers in the place of the target's, one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.graph.attributes import canonical
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Array, Graph, Node

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"})
_MOST_NODES, _MOST_TRIALS, _SAME = 40, 150, 1e-6


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number of a graph: `attribute` of a node, or its constant in `slot` (attribute "")."""

    node: Node
    attribute: str
    slot: int
    value: float

    def edit(self, graph: Graph, value: float) -> Edit:
        """The edit that gives it another value."""
        if self.attribute:
            return SetAttribute(self.node.key, self.attribute, value)
        old = graph.constant(self.node, self.slot)
        return SetInput(self.node.key, self.slot, np.full_like(np.asarray(old), value))


@dataclass(frozen=True, slots=True)
class Retried:
    """A number that heals the segment: node and twin (keys), old and new value, and the edits."""

    node: str
    twin: str
    old: float
    new: float
    edits: list[Edit]


def scalars(graph: Graph, ops: Collection[str], names: Sequence[str]) -> Iterator[Scalar]:
    """Float attributes `names` of operators `ops`, and the uniform float constants of arithmetic nodes."""
    for node in graph.nodes:
        if node.op in ops and not node.domain:
            values = canonical(node, graph)
            yield from (Scalar(node, n, -1, float(values[n])) for n in names if isinstance(values.get(n), float))
        elif node.op in _ARITHMETIC:
            for slot in range(len(node.inputs)):
                number = _uniform(graph.constant(node, slot))
                if number is not None:
                    yield Scalar(node, "", slot, number)


def _uniform(value: Array | None) -> float | None:
    """The number of a constant that holds only one; None for all others."""
    if value is None or value.size == 0 or value.dtype.kind != "f" or np.ptp(value) != 0:
        return None
    number = float(value.reshape(-1)[0])
    return number if np.isfinite(number) else None


def retried(
    segment: Segment, ops: Collection[str], names: Sequence[str], usual: Iterable[float] = (),
    spelled: Collection[str] = (),
) -> Retried | None:
    """The first number of the target that heals the segment with a value of the source's, or a usual one.

    spelled: keys of nodes of the target that are known to spell such an operator out. None where there are none of
    those and neither side has an operator of `ops`, where both hold the same numbers, and where nothing heals.
    """
    if segment.healed(segment.error) or len(segment.target.nodes) > _MOST_NODES:
        return None
    as_such = any(n.op in ops and not n.domain for g in (segment.target, segment.source) for n in g.nodes)
    ours = [s for s in scalars(segment.target, ops, names) if as_such or s.node.key in spelled]
    theirs = [s.value for s in scalars(segment.source, ops, names)]
    values = list(dict.fromkeys([*theirs, *(1 / v for v in theirs if v), *usual]))
    trials = ((s, v) for s in ours for v in values if abs(v - s.value) > _SAME * max(abs(v), abs(s.value)))
    for _, (scalar, value) in zip(range(_MOST_TRIALS), trials, strict=False):
        edits = [scalar.edit(segment.full, value)]
        if segment.healed(segment.trial(edits)):
            twin = next((s.key for t, s in twins(segment) if t.key == scalar.node.key), segment.goal.source)
            return Retried(scalar.node.key, twin, scalar.value, value, edits)
    return None
