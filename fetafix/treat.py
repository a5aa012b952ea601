"""All guilty segments of a target, diagnosed and healed in the lifted graph: localize, diagnose, edit, look again.

A fix may uncover what it masked, so the target is aligned anew after each round of edits until nothing is guilty,
nothing helps, or the rounds are used up. Nothing here touches an artifact; the edits found are proved natively
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fetafix.edits import Edit, apply
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType
from fetafix.graph.align import Alignment, Rounded
from fetafix.graph.hypotheses import WEIGHTED
from fetafix.graph.kinship import unrelated
from fetafix.graph.segment import Segment
from fetafix.heal import UNEXPLAINED, Diagnosis, Rank, Remedy, diagnose
from fetafix.ir import Graph

_ROUNDS = 6
_UNRELATED = "the weights are unrelated"
_COPIES = frozenset({UNEXPLAINED, "wb-weights"})
_SPARED = 4
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One diagnosed site, in the round it was found; `edits` are those taken over (empty where nothing helps)."""

    diagnosis: Diagnosis
    edits: tuple[Edit, ...]
    round: int

    @property
    def remedy(self) -> Remedy | None:
        """The chosen remedy."""
        return self.diagnosis.remedy


@dataclass(frozen=True, slots=True)
class Treatment:
    """The outcome: steps in the order taken, the edited target, what is still guilty, and why it ended.

    unrelated: most layers hold other weights altogether; the target is no conversion of the source.
    first, last: what rounding explains in the target as it was found and as it was aligned last.
    """

    steps: tuple[Step, ...]
    target: Graph
    remaining: tuple[Segment, ...]
    reason: str
    unrelated: bool = False
    first: tuple[Rounded, ...] = ()
    last: tuple[Rounded, ...] = ()


def treat(
    align: Callable[[Graph], Alignment], target: Graph, catalogue: Sequence[FaultType],
    progress: Progress | None = None, rank: Rank | None = None,
) -> Treatment:  # fmt: skip
    """Heal every guilty segment of a canonical target graph. `align` aligns a version of it with the source.

    rank: what is tried first at a segment (`heal.diagnose`).
    """
    steps: list[Step] = []
    original = target
    first: tuple[Rounded, ...] = ()
    hopeless: dict[tuple[object, ...], Segment] = {}
    for number in range(_ROUNDS):
        alignment = align(target)
        remaining = alignment.segments()
        last = alignment.rounded(remaining)
        first = last if number == 0 else first
        if progress is not None:
            progress(f"looking for faults, round {number + 1} ({len(remaining)} to explain)")
        if number == 0 and unrelated(remaining, alignment.unmatched, alignment.source, target):
            return Treatment((), target, tuple(remaining), _UNRELATED, True, first, last)
        if not remaining:
            needed, target = _needed(align, original, _proved(steps), target)
            return Treatment(needed, target, (), "every segment agrees with the source", False, first, last)
        made = _round([s for s in remaining if _identity(s) not in hopeless], target, catalogue, number, rank)
        sites = [s.diagnosis.site for s in made[0] if s.remedy is None]
        hopeless.update({_identity(s): s for s in sites if isinstance(s, Segment)})
        steps += made[0]
        if number == 0 and _copied(made[0], target):
            return Treatment(tuple(steps), target, tuple(remaining), _UNRELATED, True, first, last)
        if made[1] is target:
            return Treatment(tuple(steps), target, tuple(remaining), "no candidate is left that helps", False, first,
                             last)
        target = made[1]
    alignment = align(target)
    remaining = alignment.segments()
    last = alignment.rounded(remaining)
    done = "every segment agrees with the source" if not remaining else f"stopped after {_ROUNDS} rounds"
    proved = tuple(steps)
    if not remaining:
        proved, target = _needed(align, original, _proved(steps), target)
    return Treatment(proved, target, tuple(remaining), done, False, first, last)


def _proved(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Where all agrees in the end, what no edit could heal was no fault: two forms supposed to be twins inside."""
    return tuple(s for s in steps if s.remedy is not None)


def _needed(
    align: Callable[[Graph], Alignment], original: Graph, steps: tuple[Step, ...], target: Graph
) -> tuple[tuple[Step, ...], Graph]:
    """The steps without those copies of the source that the others make superfluous, and what they make of the target.

    Behind a wrong shape nothing can be fed with the source's activations: what passes the error on looks guilty as
    long as its origin is not mended.
    """
    for step in [s for s in steps if s.edits and s.remedy is not None and s.remedy.code in _COPIES][:_SPARED]:
        rest = tuple(s for s in steps if s is not step)
        if not any(s.edits for s in rest):
            break
        try:
            without = apply(original, [e for s in rest for e in s.edits])
        except FetafixError:
            continue  # another edit builds upon it
        if not align(without).segments():
            steps, target = rest, without
    return steps, target


def _round(
    segments: Sequence[Segment], target: Graph, catalogue: Sequence[FaultType], number: int, rank: Rank | None
) -> tuple[list[Step], Graph]:
    """Diagnose each segment in the graph as the segments before it left it."""
    steps: list[Step] = []
    for segment in segments:
        now = segment.on(_with_shapes(target, segment.full))
        if now.healed(now.error):
            continue  # an edit for another segment healed this one too: both read the same faulty tensor
        diagnosis = diagnose(now, catalogue, rank)
        edits = diagnosis.remedy.edits if diagnosis.remedy else ()
        try:
            target = apply(target, edits)
        except FetafixError:
            edits = ()  # it clashes with an edit made in this round; the next round looks again
        steps.append(Step(diagnosis, edits, number))
    return steps, target


def _identity(segment: Segment) -> tuple[object, ...]:
    """What tells whether a segment was diagnosed before: its nodes, constants and anchors. It must be kept alive."""
    piece = segment.target
    return (segment.goal, segment.anchors, *(id(n) for n in piece.nodes), *(id(v) for v in piece.initializers.values()))


def _with_shapes(graph: Graph, aligned: Graph) -> Graph:
    return replace(graph, shapes={**graph.shapes, **aligned.shapes})


def _copied(steps: Sequence[Step], target: Graph) -> bool:
    """Whether most weighted layers would have to be copied over: another training run, not a conversion fault."""
    layers = sum(n.op in WEIGHTED and any(target.fixed(t) for t in n.inputs) for n in target.nodes)
    copied = [s for s in steps if s.remedy is not None and s.remedy.code in _COPIES and s.remedy.before > 0.3]
    return len(copied) >= max(4, layers // 2)
