"""From a comparison to a judgement: tolerances, the gate, the figures and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fetafix.errors import UsageError
from fetafix.inputs.samples import SampleSet
from fetafix.judge import codes
from fetafix.judge.binding import Bindings
from fetafix.judge.comparison import Comparison, agreement
from fetafix.judge.metrics import Errors
from fetafix.judge.noise import Tolerance, tolerance
from fetafix.judge.statistics import Stopping
from fetafix.judge.tasks.base import Assignment
from fetafix.judge.tasks.registry import CLASSIFICATION, NUMERIC
from fetafix.judge.verdict import Facts, Gate, Ruling, rule
from fetafix.options import Options
from fetafix.parallel import ModelProcess
from fetafix.probing import Probe, arithmetic_eps
from fetafix.report import Agreement, ModelInfo

_CLEARLY = 10.0
_SLIGHT = 0.01  # relative L2


@dataclass(frozen=True)
class Opponent:
    """A target to judge: its process, its samples (in the session's order), how it is bound, and its probe."""

    process: ModelProcess
    info: ModelInfo
    samples: SampleSet
    bindings: Bindings
    probe: Probe


@dataclass(frozen=True)
class Judgement:
    """What came out: figures, verdict with reason, the bindings it rests on, and how many samples ran.

    answers: the share of samples whose answers agree in all tasks that weigh; 0 where none does.
    """

    agreement: Agreement
    ruling: Ruling
    bindings: Bindings
    comparison: Comparison
    answers: float = 0.0

    @property
    def likeness(self) -> float:
        """How much alike the answers of the weighing tasks are, from 0 to 1; 0 where none weighs."""
        known = [t.likeness for t in self.agreement.tasks if t.weighs and t.likeness is not None]
        return sum(known) / len(known) if known else 0.0


@dataclass(frozen=True)
class Judge:
    """Everything that judging needs to know about the source and the user's wishes.

    outputs: those of the source that are judged. tasks: what is known of them.
    """

    options: Options
    info: ModelInfo
    probe: Probe
    outputs: tuple[str, ...]
    tasks: tuple[Assignment, ...]

    @property
    def gate(self) -> Gate:
        """What must agree: as asked; else labels, or another task's answers, where it is sure of every output what it
        is; else the numbers. Whoever names a task for an output wants it to count.
        """
        if self.options.gate is not None:
            return self.options.gate
        sure = [t for t in self.tasks if t.sure]
        kinds = {t.comparator.name for t in sure}
        whole = {o for t in sure for o in t.outputs} >= set(self.outputs)
        asked = any(t.claim.sure == "asked" for t in sure if t.comparator.name != NUMERIC)
        if kinds <= {NUMERIC} or not (whole or asked):
            return "numeric"
        return "labels" if whole and kinds == {CLASSIFICATION} else "task"

    @property
    def weighing(self) -> tuple[Assignment, ...]:
        """The tasks whose answers weigh in the verdict: those that are sure, and guesses where the gate asks for them.

        Where one output surely is a classifier's, others that may be weigh as well.
        """
        known = [t for t in self.tasks if t.comparator.name != NUMERIC]
        heads = [t for t in known if t.comparator.name == CLASSIFICATION]
        if self.options.gate == "labels":
            return tuple(heads)
        if self.options.gate == "task" or not any(t.sure for t in known):
            return tuple(known) if self.options.gate == "task" else ()
        return tuple(t for t in known if t.sure or (t in heads and any(h.sure for h in heads)))

    @property
    def by_numbers(self) -> tuple[str, ...]:
        """Outputs without an answer that weighs."""
        answered = {o for t in self.weighing for o in t.outputs}
        return tuple(o for o in self.outputs if o not in answered)

    def tolerances(self, total: Comparison, opponent: Opponent) -> dict[str, Tolerance]:
        """By source output: the user's where there is one, else from the source's noise and the scale of its values."""
        own = self._of_noise(total, opponent)
        given, bindings = self.options.tolerance, opponent.bindings
        known = {*bindings.missing, *bindings.extra, *bindings.output_names, *bindings.output_names.values()}
        unknown = [n for n in given if n not in known]
        if unknown:
            names = ", ".join(sorted(known))
            raise UsageError(f"tolerance for {unknown[0]!r}: there is no such output; outputs are {names}")
        users = {b.source: given.get(b.source, given.get(b.target)) for b in bindings.outputs}
        return {name: own[name] if user is None else _given(user) for name, user in users.items()}

    def _of_noise(self, total: Comparison, opponent: Opponent) -> dict[str, Tolerance]:
        eps, steps = arithmetic_eps(self.info), self.steps(opponent)
        found = {}
        for name in (b.source for b in opponent.bindings.outputs):
            sums, dtype = total.errors.get(name, Errors()), self.probe.base[name].dtype
            floor, step, gain = self.probe.noise.floor(name), steps.get(name, 0.0), self.probe.gain(name)
            found[name] = tolerance(floor, dtype, sums.scale, eps, step, sums.rms, gain)
        return found

    def _same(self, total: Comparison, opponent: Opponent) -> set[str]:
        """Outputs whose numbers are within the source's noise, and differ slightly.

        Where rounding exchanges the rows of a list, noise is as large as the values, and says nothing about answers.
        What the user tolerates in numbers excuses other answers only where the user asked for the gate `numeric`.
        """
        own, given = self._of_noise(total, opponent), self.tolerances(total, opponent)
        same = {n for n, e in total.errors.items() if own[n].admits(e) and (e.rel_l2 or 0.0) <= _SLIGHT}
        if self.options.gate == "numeric":
            same |= {n for n, e in total.errors.items() if given[n] != own[n] and given[n].admits(e)}
        return same

    def steps(self, opponent: Opponent) -> dict[str, float]:
        """What one code of an output is worth, for outputs that either model quantises."""
        return codes.steps(self.info, opponent.info, opponent.bindings.outputs)

    def settled(self, total: Comparison, opponent: Opponent, planned: int) -> bool:
        """Whether the question is decided before all samples ran."""
        answers = self.weighing if self.gate != "numeric" else ()
        numbers = self.outputs if not answers else self.by_numbers if self.gate == "task" else ()
        beyond = any(
            e.max_abs > _CLEARLY * t.max_abs
            for name, t in self.tolerances(total, opponent).items()
            if name in numbers and (e := total.errors.get(name)) is not None and t.max_abs is not None
        )
        if beyond or not answers:
            return beyond
        rule = Stopping(self.options.max_mismatch, self.options.confidence, planned)
        lost = rule.decide(self._mismatches(total, opponent, lost=True), total.samples)
        final = all(t.comparator.final(total.tasks[t.key], t.limits) for t in answers if t.key in total.tasks)
        return lost == "fail" or (lost == "pass" and final and not numbers)

    def _mismatches(self, total: Comparison, opponent: Opponent, lost: bool = False) -> int:
        """Samples whose answer differs in any task that weighs. lost: only those that further samples cannot save."""
        same = self._same(total, opponent)
        wrong = np.zeros(total.samples, np.bool_)
        for task in self.weighing:
            agreeing = total.agreeing(task, same)
            if lost and not agreeing.all():
                agreeing = ~task.comparator.lost(total.tasks[task.key], task.limits)
            wrong[: len(agreeing)] |= ~agreeing
        return int(wrong.sum())

    def _bounded(self, tolerances: Mapping[str, Tolerance]) -> tuple[Assignment, ...]:
        """The tasks; those that are numbers with the tolerance of their output."""
        limits = {n: {"max_abs": t.max_abs} for n, t in tolerances.items() if t.max_abs is not None}
        return tuple(
            replace(t, limits=limits.get(t.outputs[0], {})) if t.comparator.name == NUMERIC else t for t in self.tasks)

    def judgement(self, total: Comparison, opponent: Opponent, names: Sequence[str]) -> Judgement:
        """Figures and verdict."""
        bindings, noise = opponent.bindings, self.probe.noise
        tolerances, steps = self.tolerances(total, opponent), self.steps(opponent)
        figures = agreement(
            total, bindings.outputs, self._bounded(tolerances), tolerances, noise, self.options.confidence, names,
            steps, self.weighing, self._same(total, opponent))
        wrong = self._mismatches(total, opponent)
        known = any(t.weighs and t.samples for t in figures.tasks)
        answers = 1.0 - wrong / total.samples if known and total.samples else 0.0
        facts = self._facts(total, opponent, figures, wrong if known else None)
        return Judgement(figures, rule(facts), bindings, total, answers)

    def _facts(self, total: Comparison, opponent: Opponent, figures: Agreement, mismatches: int | None) -> Facts:
        other = opponent.probe.noise
        own = self.probe.noise
        spread = {name: e.nonfinite_source for name, e in total.errors.items()}
        return Facts(
            gate=self.gate, samples=total.samples, outputs=tuple(figures.outputs),
            labelled=mismatches is not None, mismatches=mismatches or 0, by_numbers=self.by_numbers,
            answers="labels" if all(t.comparator.name == CLASSIFICATION for t in self.weighing) else "answers",
            detail=_detail(figures), max_mismatch=self.options.max_mismatch, confidence=self.options.confidence,
            broken=tuple(n for n, e in total.errors.items() if e.nonfinite_differs and e.nonfinite_target),
            unsound=tuple(n for n, count in spread.items() if count),
            missing=opponent.bindings.missing,
            extra=opponent.bindings.extra,
            incomparable=tuple((n, _shapes(s, t)) for n, (s, t) in total.shapes.items()),
            crossed=opponent.bindings.crossed,
            batch_failure=opponent.probe.batch_failure if self.probe.batched else "",
            source_varies=own.run_variation,
            target_varies=other.run_variation,
            target_depends=None if own.batch_dependence is not None else other.batch_dependence,
        )


def _detail(figures: Agreement) -> str:
    """What the tasks that weigh say, but for labels, which say it all by their number."""
    told = [t for t in figures.tasks if t.weighs and t.task != CLASSIFICATION and t.words]
    return "; ".join(f"{t.task} of {', '.join(map(repr, t.outputs))}: {t.words}" for t in told)


def _shapes(source: tuple[int, ...], target: tuple[int, ...]) -> str:
    return f"a sample is {list(target[1:])} in the target, {list(source[1:])} in the source"


def _given(user: Any) -> Tolerance:
    """A tolerance from a number, a mapping or a configuration record."""
    if isinstance(user, int | float):
        return Tolerance(max_abs=float(user))
    names = ("max_abs", "rel_l2", "mean_abs", "max_rel")
    table = user if isinstance(user, Mapping) else {n: getattr(user, n, None) for n in names}
    unknown = [k for k in table if k not in names]
    if unknown:
        raise UsageError(f"a tolerance has {', '.join(names)}; found {unknown[0]!r}")
    return Tolerance(**table)
