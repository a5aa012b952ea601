"""From figures to a verdict with its reason in plain words.

    undecided   nothing to judge by: the source's own answers are not finite, vary from run to run, or nothing compares
    divergent   the gate fails on answers, an output is lost or broken, or (where no answer is known) numbers differ
    drifting    answers agree, numbers do not: passes the gates `labels` and `task`, fails the gate `numeric`
    equivalent  answers agree, where any are known, and all numbers are within the tolerance

An answer is what a comparator (`fetafix.judge.tasks`) makes of outputs: a label, a class map, a set of boxes. The gates
`labels` and `task` pass while at most the share `max_mismatch` of the samples gets another answer; the reason gives the
exact bounds at `confidence`. Under `task`, outputs that no comparator knows have to be within the tolerance as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fetafix.judge.statistics import clopper_pearson
from fetafix.report import OutputAgreement, Verdict

_LIVE = "is a dropout, a random operator or a batch normalisation in training mode live?"
Gate = Literal["labels", "task", "numeric"]
GATES: tuple[Gate, ...] = ("labels", "task", "numeric")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict rests on.

    labelled: whether answers are known (mismatches counts samples whose answer differs in any task). answers: what they
    are called, "labels" or "answers". detail: what the comparators say of them. by_numbers: outputs without an answer,
    which the gate `task` judges by their numbers.
    broken: outputs where the target is NaN or infinite and the source is not, or otherwise so; unsound: those where the
    source itself is not finite. missing: source outputs that the target lacks; extra: the reverse. incomparable:
    outputs of another shape, as (source name, what was found). batch_failure: how the target fails on a batch that the
    source takes. The variations are relative L2 differences beyond noise, None where there is none; a target that
    varies is beyond the noise floor.
    """

    gate: Gate
    samples: int
    outputs: tuple[OutputAgreement, ...] = ()
    labelled: bool = False
    mismatches: int = 0
    answers: str = "labels"
    detail: str = ""
    by_numbers: tuple[str, ...] = ()
    max_mismatch: float = 0.0
    confidence: float = 0.95
    broken: tuple[str, ...] = ()
    unsound: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    incomparable: tuple[tuple[str, str], ...] = ()
    crossed: tuple[tuple[str, str, str], ...] = ()
    batch_failure: str = ""
    source_varies: float | None = None
    target_varies: float | None = None
    target_depends: float | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict, whether the gate passes (None where undecided), and why."""

    verdict: Verdict
    passed: bool | None
    reason: str


def rule(facts: Facts) -> Ruling:
    """The verdict on the facts; the first thing that settles it is the reason."""
    undecided = _undecided(facts)
    if undecided:
        return Ruling(Verdict.UNDECIDED, None, undecided)
    broken = _broken(facts)
    if broken:
        return Ruling(Verdict.DIVERGENT, False, broken)
    labels, labels_pass = _labels(facts)
    numbers, numbers_pass = _numbers(facts)
    sentence = f"{labels}; {numbers}" if labels else numbers
    if numbers_pass and labels_pass and not facts.mismatches:
        return Ruling(Verdict.EQUIVALENT, True, sentence)
    known = facts.gate != "task" or all(o.within is not False for o in facts.outputs if o.source in facts.by_numbers)
    if not labels_pass or not facts.labelled or not known:
        return Ruling(Verdict.DIVERGENT, False, sentence + _hint(facts))
    return Ruling(Verdict.DRIFTING, facts.gate != "numeric" or numbers_pass, sentence + _hint(facts))


def _undecided(facts: Facts) -> str:
    if facts.samples == 0:
        return "no sample was compared"
    if not facts.outputs:
        theirs, ours = (", ".join(map(repr, names)) or "none" for names in (facts.extra, facts.missing))
        return (
            f"no output of the target ({theirs}) could be bound to one of the source ({ours}): names, shapes or dtypes "
            "do not fit"
        )
    if facts.unsound and not facts.broken:
        return f"the source's own output {facts.unsound[0]!r} holds NaN or infinity, so there is nothing to agree with"
    if facts.source_varies is not None:
        return (
            f"the source itself answers differently from run to run on the same input (relative difference "
            f"{facts.source_varies:.2g}), so there is nothing to agree with: {_LIVE}"
        )
    return ""


def _broken(facts: Facts) -> str:
    if facts.broken:
        return f"the target's output {facts.broken[0]!r} holds NaN or infinity where the source's is finite"
    if facts.missing:
        return f"the target lacks the source's output {facts.missing[0]!r}"
    if facts.incomparable:
        name, what = facts.incomparable[0]
        return f"output {name!r} cannot be compared: {what}"
    if facts.batch_failure:
        return f"the source takes several samples at once, the target fails on them: {facts.batch_failure}"
    return ""


def _labels(facts: Facts) -> tuple[str, bool]:
    if not facts.labelled:
        return "", True
    agree = facts.samples - facts.mismatches
    low, high = clopper_pearson(agree, facts.samples, facts.confidence)
    bounds = f"between {low:.1%} and {high:.1%} with {facts.confidence:.0%} confidence"
    detail = f": {facts.detail}" if facts.detail else ""
    if facts.mismatches == 0:
        return f"all {facts.samples} {facts.answers} agree ({bounds}){detail}", True
    allowed = f"; allowed: {facts.max_mismatch:.3g} of them" if facts.max_mismatch else ""
    text = f"{facts.mismatches} of {facts.samples} {facts.answers} differ (agreement {bounds}{allowed}){detail}"
    return text, facts.mismatches <= facts.max_mismatch * facts.samples + 1e-9


def _numbers(facts: Facts) -> tuple[str, bool]:
    beyond = [o for o in facts.outputs if o.within is False]
    worst = max(beyond or facts.outputs, key=lambda o: (o.max_abs or 0.0) / (o.tolerance or 1e-30))
    how_far = "do not differ at all" if worst.max_abs == 0.0 else f"differ by up to {_figure(worst.max_abs)}"
    figure = f"values of output {worst.source!r} {how_far}"
    if not beyond:
        steady = facts.target_varies is None and facts.target_depends is None
        return f"numbers are within the noise: {figure}, tolerance {_figure(worst.tolerance)}", steady
    if worst.tolerance is not None and (worst.max_abs or 0.0) <= worst.tolerance:
        return f"{figure}, as relative L2 {_figure(worst.rel_l2)}, beyond what harmless changes make", False
    return f"{figure}, beyond the tolerance {_figure(worst.tolerance)}", False


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g}"


def _hint(facts: Facts) -> str:
    """What is known about the cause without looking inside."""
    if facts.crossed:
        source, _, other = facts.crossed[0]
        return f". The values of {source!r} are found in the target's {other!r}: outputs are swapped"
    if facts.target_depends is not None:
        return ". The target's answer to a sample depends on the other samples in the batch"
    if facts.target_varies is not None:
        return f". The target answers differently from run to run: {_LIVE}"
    return ""
