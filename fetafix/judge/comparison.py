"""What two models' outputs say about each other, gathered chunk by chunk, and what the report says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from fetafix.ir import Array
from fetafix.judge import codes
from fetafix.judge.binding import Binding
from fetafix.judge.labels import Labels, class_scores, labels
from fetafix.judge.metrics import Errors, errors
from fetafix.judge.noise import Noise, Tolerance
from fetafix.judge.statistics import clopper_pearson
from fetafix.report import Agreement, OutputAgreement

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sums over the samples seen so far, by source output; `a + b` joins two chunks.

    labels: heads of classifiers only. shapes: outputs that have no common layout, as (source's shape, target's shape).
    """

    samples: int = 0
    errors: Mapping[str, Errors] = field(default_factory=dict)
    labels: Mapping[str, Labels] = field(default_factory=dict)
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.samples + other.samples,
            {k: self.errors.get(k, Errors()) + other.errors.get(k, Errors()) for k in {**self.errors, **other.errors}},
            {k: self.labels.get(k, Labels()) + other.labels.get(k, Labels()) for k in {**self.labels, **other.labels}},
            {**self.shapes, **other.shapes},
        )

    @property
    def mismatched(self) -> list[int]:
        """Positions of the samples whose label differs in any head."""
        wrong = {i for found in self.labels.values() for i, same in enumerate(found.top1) if not same}
        return sorted(wrong)


def compare(
    outputs: Sequence[Binding], heads: Sequence[str], source: Mapping[str, Array], target: Mapping[str, Array],
    noise: Noise,
) -> Comparison:
    """Compare both models' outputs for the same samples (axis 0), by name. `heads`: source outputs with labels.

    Scores tie within the source's own noise.
    """
    sums: dict[str, Errors] = {}
    found: dict[str, Labels] = {}
    shapes = {}
    for b in outputs:
        s = source[b.source]
        t = b.to_source(target[b.target], s.shape)
        if s.shape == t.shape:
            sums[b.source] = errors(s, t)
        else:
            shapes[b.source] = (s.shape, t.shape)
        if b.source in heads:
            of_s, of_t = class_scores(s), class_scores(t)
            if of_s is not None and of_t is not None and len(of_s) == len(of_t):
                found[b.source] = labels(of_s, of_t, noise.tie(b.source))
    samples = len(next(iter(source.values()))) if source else 0
    return Comparison(samples, sums, found, shapes)


def agreement(
    total: Comparison, outputs: Sequence[Binding], tolerances: Mapping[str, Tolerance], noise: Noise,
    confidence: float = 0.95, names: Sequence[str] = (), steps: Mapping[str, float] = MappingProxyType({}),
) -> Agreement:
    """The record for the report. names: what to call the samples, by position, among the mismatches (20 at most).

    steps: what one code is worth, by source output, for quantised ones. The primary output is the first head of a
    classifier, else the first output.
    """
    records = [_output(b, total, tolerances, noise, steps.get(b.source)) for b in outputs]
    head = next((b.source for b in outputs if b.source in total.labels), None)
    primary = next((r for r in records if head in (None, r.source)), OutputAgreement(source="", target=""))
    found = total.labels.get(head) if head is not None else None
    labelled = found is not None and found.n > 0
    return Agreement(
        samples=total.samples,
        top1=float(found.top1.mean()) if found and labelled else None,
        top1_bounds=clopper_pearson(int(found.top1.sum()), found.n, confidence) if found and labelled else None,
        top5=float(found.top5.mean()) if found and labelled and found.classes > 5 else None,
        kendall_tau=found.mean_tau if found else None,
        max_abs=primary.max_abs, mean_abs=primary.mean_abs, max_rel=primary.max_rel, mean_rel=primary.mean_rel,
        cosine=primary.cosine, sqnr_db=primary.sqnr_db, noise_floor=primary.noise_floor, tolerance=primary.tolerance,
        outputs=records, mismatches=_mismatches(total, head, names),
    )


def _output(
    b: Binding, total: Comparison, tolerances: Mapping[str, Tolerance], noise: Noise, step: float | None
) -> OutputAgreement:
    e = total.errors.get(b.source)
    layout = list(b.perm) if b.perm is not None else None
    floor, bound = noise.floor(b.source).max_abs, tolerances.get(b.source, Tolerance())
    if e is None:
        return OutputAgreement(
            source=b.source, target=b.target, layout=layout, noise_floor=floor, within=False, code_step=step
        )
    return OutputAgreement(
        source=b.source, target=b.target, layout=layout, max_abs=e.max_abs, mean_abs=e.mean_abs, max_rel=e.max_rel,
        mean_rel=e.mean_rel, rel_l2=e.rel_l2, cosine=e.cosine, sqnr_db=e.sqnr_db, noise_floor=floor,
        tolerance=bound.max_abs, within=bound.admits(e), nonfinite=e.nonfinite_target,
        code_step=step, max_codes=codes.codes(e.max_abs, step),
    )


def _mismatches(total: Comparison, head: str | None, names: Sequence[str]) -> list[str]:
    if head is None:
        return []
    found, lines = total.labels[head], []
    for i in total.mismatched[:_NAMED]:
        name = names[i] if i < len(names) else f"sample {i}"
        lines.append(f"{name}: source says {found.source[i]}, target {found.target[i]}")
    return lines
