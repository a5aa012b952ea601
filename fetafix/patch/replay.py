"""Replay reviewed edits onto another conversion of the same model: where each belongs, and whether it may be made.

Places are found by structure and weights (`graph.structure`); then each edit is held against what is there (`checks`).
It is made only where it finds what it found when it was reviewed: the same operator with the same settings, the same
old value, the same neighbours. Weights that came out of another training run are told by their values, and no edit that
carries weights or replaces them is made then; one that sets a hyper-parameter still fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetOperator,
    apply,
)
from fetafix.errors import EditError
from fetafix.graph.structure import MANY, Correspondence, Outline, correspondence
from fetafix.ir import Array, Graph, Node
from fetafix.patch.checks import Checker
from fetafix.patch.cursor import Cursor, Misfit

_SHARE, _SHARE_RETRAINED = 0.5, 0.9  # of the operators that must be found again; where the weights are others too
_SAME_WEIGHTS = 0.5

Status = Literal["fits", "in place", "refused"]


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a patch: its id, and its edits in terms of the graph as the entries before it left it."""

    id: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a step in the other graph.

    edits: as they are to be made there. place: the node key that the first one belongs to. found: how that place was
    found. why: the reason of a refusal, or what a reader should know.
    """

    id: str
    status: Status
    edits: tuple[Edit, ...] = ()
    place: str | None = None
    found: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The fates of all steps, and the other graph with all edits that fit.

    share: how much of the first graph's operators was found again. weights: how many of the layers with weights, among
    those found, hold the same weights; 1 where there are none.
    """

    fates: tuple[Fate, ...]
    graph: Graph
    share: float
    weights: float

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits to be made, in order."""
        return tuple(e for f in self.fates for e in f.edits)

    def of(self, status: Status) -> tuple[Fate, ...]:
        """The fates with a status."""
        return tuple(f for f in self.fates if f.status == status)


def replay(base: Outline, steps: Sequence[Step], other: Outline) -> Replayed:
    """Carry the steps over from the graph that they were made for to another. Refusals are fates, nothing is raised."""
    found = correspondence(base, other)
    count = len(base.graph.nodes)
    share, weights = len(found.nodes) / max(count, 1), _same_weights(base, other, found)
    trained = weights < _SAME_WEIGHTS
    if share < (_SHARE_RETRAINED if trained else _SHARE):
        why = f"it is another model: of {count} operators {len(found.nodes)} are found again"
        why += ", and the weights of those differ" if trained else ""
        return Replayed(tuple(Fate(s.id, "refused", why=why) for s in steps), other.graph, share, weights)
    runner = _Runner(base, other, found, not trained)
    fates = tuple(map(runner.step, steps))
    return Replayed(fates, runner.cursor.second, share, weights)


def _same_weights(base: Outline, other: Outline, found: Correspondence) -> float:
    same = total = 0
    for a, b in found.nodes.items():
        pairs = list(_weights(base, base.graph.producers[a], other, other.graph.producers[b]))
        total += bool(pairs)
        same += bool(pairs) and all(base.prints[x].like(other.prints[y]) for x, y in pairs)
    return same / total if total else 1.0


def _weights(base: Outline, node: Node, other: Outline, twin: Node) -> Iterable[tuple[str, str]]:
    """Pairs of weights that a pair of nodes reads; small constants and integers of shapes and orders are none."""
    for x, y in zip(node.inputs, twin.inputs, strict=False):
        a, b = base.graph.initializers.get(x), other.graph.initializers.get(y)
        if a is not None and b is not None and _trained(a) and _trained(b):
            yield x, y


def _trained(value: Array) -> bool:
    return value.size >= MANY and (value.dtype.kind in "fV" or value.dtype.itemsize == 1)


class _Runner:
    """Holds each step against the other graph, and makes it on both sides."""

    def __init__(self, base: Outline, other: Outline, found: Correspondence, same_weights: bool) -> None:
        self.cursor = Cursor(base.graph, other.graph, found)
        self._found = found
        self._checker = Checker(self.cursor, base, other, same_weights)

    def step(self, step: Step) -> Fate:
        """Try a step; where one of its edits does not fit, none of them is made."""
        mark = self.cursor.mark()
        made: list[Edit] = []
        first = _where(step.edits[0])
        place, found = self._place(first), self._found.how.get(first, "")
        self._checker.notes.clear()
        try:
            for edit in step.edits:
                needed = self._checker.needed(edit, _own(step, edit))
                there = self.cursor.translated(edit) if needed else None
                self.cursor.advance(edit, there)
                made += [] if there is None else [there]
        except (Misfit, EditError) as reason:
            self.cursor.reset(mark, apply(mark.first, step.edits))
            return Fate(step.id, "refused", (), place, found, str(reason))
        why = "; ".join(dict.fromkeys(self._checker.notes))
        if not made:
            return Fate(step.id, "in place", (), place, found, why or "the model has it already")
        return Fate(step.id, "fits", tuple(made), place, found, why)

    def _place(self, key: str) -> str | None:
        return self.cursor.tensor(key) if key and self.cursor.knows(key) else None


def _where(edit: Edit) -> str:
    """The tensor, in the first graph, that tells where an edit is made; "" where that is the interface."""
    match edit:
        case InsertNode():
            return edit.after
        case ReplaceSegment():
            return edit.output
        case SetAttribute() | SetInput() | Rewire() | SetOperator() | RemoveNode():
            return edit.node
    return ""


def _own(step: Step, edit: Edit) -> frozenset[str]:
    """Settings of an edit's node that the step itself sets."""
    key = getattr(edit, "node", None)
    return frozenset(e.attribute for e in step.edits if isinstance(e, SetAttribute) and e.node == key)
