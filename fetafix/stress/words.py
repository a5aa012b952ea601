"""What a stress test says in plain words, and the paired comparison of its subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from fetafix.storage.trials import mcnemar
from fetafix.stress.journal import Trial
from fetafix.stress.options import StressOptions
from fetafix.stress.record import Pairing, Subject


def points(share: float) -> str:
    """A drop in points: 1 point, 0.5 points."""
    value = 100.0 * share
    return f"{value:.3g} point" if abs(value - 1.0) < 1e-9 else f"{value:.3g} points"


def sentence(subject: Subject) -> str:
    """What one subject tolerates."""
    if subject.tolerated is not None:
        return f"{subject.name} tolerates {subject.tolerated:g}{_next(subject)}"
    lowest = subject.cells[0].ber if subject.cells else 0.0
    certain = f" (at {subject.untouched:.2g} no bit flips so often)" if subject.untouched else ""
    if subject.cells and subject.cells[0].decided == "no":
        return f"{subject.name} does not tolerate even {lowest:g}, the lowest rate tried{certain}"
    return f"{subject.name} is undecided at {lowest:g}, the lowest rate tried{certain}"


def question(options: StressOptions) -> str:
    """What it means to tolerate a rate."""
    return (f"Bit-error rates at which the drop stays within {points(options.max_drop)} with a probability of at least "
            f"{100 * options.survival:.3g}%, {100 * options.confidence:.3g}% sure")


def _next(subject: Subject) -> str:
    """What is known of the rates above the tolerated one."""
    above = [c for c in subject.cells if c.ber > (subject.tolerated or 0.0)]
    undecided = [f"{c.ber:g}" for c in above if c.decided == ""]
    words = [f"{' and '.join(undecided)} {'is' if len(undecided) == 1 else 'are'} undecided"] if undecided else []
    words += [f"{subject.open:g} is too much"] if subject.open is not None else []
    return " (" + ", ".join(words or ["the highest rate tried"]) + ")"


def verdict(subjects: Sequence[Subject], options: StressOptions) -> str:
    """The answer to the question that was asked."""
    if options.require is None:
        return f"{question(options)}: {'; '.join(map(sentence, subjects))}."
    failing = [s for s in subjects if not reached(s, options.require)]
    if not failing:
        whom = subjects[0].name if len(subjects) == 1 else "every model"
        return f"Reached: {whom} tolerates {options.require:g}. {question(options)}."
    return f"Not reached: {options.require:g} is required. {question(options)}: {'; '.join(map(sentence, failing))}."


def reached(subject: Subject, required: float) -> bool:
    """Whether a rate is tolerated: one up to which the sweep is shown, or at which hardly any bit flips."""
    return max(subject.tolerated or 0.0, subject.untouched or 0.0) >= required * (1 - 1e-9)


def pairs(subjects: Sequence[Subject], trials: Mapping[tuple[str, float], Sequence[Trial]]) -> list[Pairing]:
    """Each two subjects on the trials that both have, rate by rate."""
    found = []
    for first, second in combinations(subjects, 2):
        for cell in first.cells:
            ours, theirs = (trials.get((s.name, cell.ber), ()) for s in (first, second))
            both = [(a.outcome == "survived", b.outcome == "survived") for a, b in zip(ours, theirs, strict=False)]
            if both:
                one, other = both.count((True, False)), both.count((False, True))
                found.append(Pairing(
                    first=first.name, second=second.name, ber=cell.ber, both=both.count((True, True)), first_only=one,
                    second_only=other, neither=both.count((False, False)), p=mcnemar(one, other)))
    return found
