"""From a comparison to a judgement: tolerances, the gate, the figures and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fetafix.errors import UsageError
from fetafix.inputs.samples import SampleSet
from fetafix.judge import codes
from fetafix.judge.binding import Bindings
from fetafix.judge.comparison import Comparison, agreement
from fetafix.judge.heads import Head
from fetafix.judge.metrics import Errors
from fetafix.judge.noise import Tolerance, softmax_gain, tolerance
from fetafix.judge.statistics import Stopping
from fetafix.judge.verdict import Facts, Gate, Ruling, rule
from fetafix.options import Options
from fetafix.parallel import ModelProcess
from fetafix.probing import Probe, arithmetic_eps
from fetafix.report import Agreement, ModelInfo

_CLEARLY = 10.0


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
    """What came out: figures, verdict with reason, the bindings it rests on, and how many samples ran."""

    agreement: Agreement
    ruling: Ruling
    bindings: Bindings
    comparison: Comparison


@dataclass(frozen=True)
class Judge:
    """Everything that judging needs to know about the source and the user's wishes."""

    options: Options
    info: ModelInfo
    probe: Probe
    heads: Mapping[str, Head]

    @property
    def gate(self) -> Gate:
        """What must agree: as asked, else labels where every output is surely a classifier's head."""
        if self.options.gate is not None:
            return self.options.gate
        return "labels" if self.heads and all(h.classifier == "yes" for h in self.heads.values()) else "numeric"

    @property
    def scored(self) -> list[str]:
        """Outputs that get label figures."""
        return [name for name, h in self.heads.items() if h.classifier != "no"]

    @property
    def labelled(self) -> bool:
        """Whether label figures weigh in the verdict."""
        sure = any(h.classifier == "yes" for h in self.heads.values())
        return sure or (self.options.gate == "labels" and bool(self.scored))

    def tolerances(self, total: Comparison, opponent: Opponent) -> dict[str, Tolerance]:
        """By source output: the user's where there is one, else from the source's noise and the scale of its values."""
        given, bindings = self.options.tolerance, opponent.bindings
        known = {*bindings.missing, *bindings.extra, *bindings.output_names, *bindings.output_names.values()}
        unknown = [n for n in given if n not in known]
        if unknown:
            names = ", ".join(sorted(known))
            raise UsageError(f"tolerance for {unknown[0]!r}: there is no such output; outputs are {names}")
        eps, steps = arithmetic_eps(self.info), self.steps(opponent)
        found = {}
        for b in bindings.outputs:
            user = given.get(b.source, given.get(b.target))
            sums, base = total.errors.get(b.source, Errors()), self.probe.base[b.source]
            floor, step, gain = self.probe.noise.floor(b.source), steps.get(b.source, 0.0), softmax_gain(base)
            found[b.source] = (
                _given(user) if user is not None
                else tolerance(floor, base.dtype, sums.scale, eps, step, sums.rms, gain)
            )  # fmt: skip
        return found

    def steps(self, opponent: Opponent) -> dict[str, float]:
        """What one code of an output is worth, for outputs that either model quantises."""
        return codes.steps(self.info, opponent.info, opponent.bindings.outputs)

    def settled(self, total: Comparison, opponent: Opponent, planned: int) -> bool:
        """Whether the question is decided before all samples ran."""
        if self.gate == "labels" and self.labelled:
            rule = Stopping(self.options.max_mismatch, self.options.confidence, planned)
            return rule.decide(len(total.mismatched), total.samples) is not None
        return any(
            e.max_abs > _CLEARLY * t.max_abs
            for name, t in self.tolerances(total, opponent).items()
            if (e := total.errors.get(name)) is not None and t.max_abs is not None
        )

    def judgement(self, total: Comparison, opponent: Opponent, names: Sequence[str]) -> Judgement:
        """Figures and verdict."""
        bindings, noise = opponent.bindings, self.probe.noise
        tolerances, steps = self.tolerances(total, opponent), self.steps(opponent)
        figures = agreement(total, bindings.outputs, tolerances, noise, self.options.confidence, names, steps)
        return Judgement(figures, rule(self._facts(total, opponent, figures)), bindings, total)

    def _facts(self, total: Comparison, opponent: Opponent, figures: Agreement) -> Facts:
        other = opponent.probe.noise
        own = self.probe.noise
        spread = {name: e.nonfinite_source for name, e in total.errors.items()}
        return Facts(
            gate=self.gate, samples=total.samples, outputs=tuple(figures.outputs),
            labelled=self.labelled and figures.top1 is not None, mismatches=len(total.mismatched),
            max_mismatch=self.options.max_mismatch, confidence=self.options.confidence,
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
