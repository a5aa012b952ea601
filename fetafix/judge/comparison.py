"""What two models' outputs say about each other, gathered chunk by chunk, and what the report says of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge import codes
from fetafix.judge.binding import Binding
from fetafix.judge.metrics import Errors, errors
from fetafix.judge.noise import Noise, Tolerance
from fetafix.judge.statistics import clopper_pearson
from fetafix.judge.tasks.base import Assignment, Observed, plain
from fetafix.judge.tasks.registry import CLASSIFICATION
from fetafix.report import Agreement, OutputAgreement, TaskAgreement

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sums over the samples seen so far, by source output; `a + b` joins two chunks.

    tasks: what the comparators noted, by `Assignment.key`. shapes: outputs that have no common layout, as (source's
    shape, target's shape).
    """

    samples: int = 0
    errors: Mapping[str, Errors] = field(default_factory=dict)
    tasks: Mapping[str, Observed] = field(default_factory=dict)
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.samples + other.samples,
            {k: self.errors.get(k, Errors()) + other.errors.get(k, Errors()) for k in {**self.errors, **other.errors}},
            {k: self.tasks.get(k, Observed()) + other.tasks.get(k, Observed()) for k in {**self.tasks, **other.tasks}},
            {**self.shapes, **other.shapes},
        )

    def agreeing(self, task: Assignment, same: Collection[str]) -> NDArray[np.bool_]:
        """On which samples a task's answers agree: bool[N].

        same: outputs whose numbers are within the source's noise over all samples. What differs no more than the source
        from itself is the same answer; but labels count as they are.
        """
        seen = self.tasks.get(task.key, Observed())
        if task.comparator.name != CLASSIFICATION and all(o in same for o in task.outputs):
            return np.ones(seen.n, np.bool_)
        return task.comparator.agree(seen, task.limits) if seen.n else np.zeros(0, np.bool_)


def compare(
    outputs: Sequence[Binding], tasks: Sequence[Assignment], source: Mapping[str, Array], target: Mapping[str, Array],
    noise: Noise,
) -> Comparison:
    """Compare both models' outputs for the same samples (axis 0), by name; those of each task together.

    Scores tie within the source's own noise.
    """
    sums: dict[str, Errors] = {}
    found: dict[str, Observed] = {}
    shapes, turned = {}, {}
    for b in outputs:
        s = source[b.source]
        t = turned[b.source] = b.to_source(target[b.target], s.shape)
        if s.shape == t.shape:
            sums[b.source] = errors(s, t)
        else:
            shapes[b.source] = (s.shape, t.shape)
    for task in tasks:
        roles = task.claim.roles
        if all(name in turned for name in roles.values()):
            ties = {role: noise.tie(name) for role, name in roles.items()}
            first, second = ({role: plain(rows[name]) for role, name in roles.items()} for rows in (source, turned))
            seen = task.comparator.observe(first, second, task.claim, task.limits, ties)
            if seen is not None:
                found[task.key] = seen
    samples = len(next(iter(source.values()))) if source else 0
    return Comparison(samples, sums, found, shapes)


def agreement(
    total: Comparison, outputs: Sequence[Binding], tasks: Sequence[Assignment], tolerances: Mapping[str, Tolerance],
    noise: Noise, confidence: float = 0.95, names: Sequence[str] = (),
    steps: Mapping[str, float] = MappingProxyType({}), weighing: Sequence[Assignment] = (), same: Collection[str] = (),
) -> Agreement:
    """The record for the report. names: what to call the samples, by position, among the mismatches (20 at most).

    steps: what one code is worth, by source output, for quantised ones. weighing: the tasks that settle the verdict.
    same: see `Comparison.agreeing`.
    The primary output is the first head of a classifier, else the first output.
    """
    records = [_output(b, total, tolerances, noise, steps.get(b.source)) for b in outputs]
    told = [_task(task, total, same, confidence, names, task in weighing) for task in tasks if task.key in total.tasks]
    labels = next((t for t in told if t.task == CLASSIFICATION), None)
    first = labels or next((t for t in told if t.weighs), None)
    primary = next((r for r in records if labels is None or r.source in labels.outputs),
                   OutputAgreement(source="", target=""))
    figures = labels.figures if labels is not None and labels.samples else {}
    return Agreement(
        samples=total.samples, confidence=confidence,
        top1=figures.get("top1"), top1_bounds=labels.bounds if labels is not None and labels.samples else None,
        top5=figures.get("top5"), kendall_tau=figures.get("kendall_tau"),
        max_abs=primary.max_abs, mean_abs=primary.mean_abs, max_rel=primary.max_rel, mean_rel=primary.mean_rel,
        cosine=primary.cosine, sqnr_db=primary.sqnr_db, noise_floor=primary.noise_floor, tolerance=primary.tolerance,
        outputs=records, tasks=told, mismatches=first.mismatches if first is not None else [],
    )


def _task(
    task: Assignment, total: Comparison, same: Collection[str], confidence: float, names: Sequence[str],
    weighs: bool,
) -> TaskAgreement:
    comparator, seen = task.comparator, total.tasks[task.key]
    agreeing = total.agreeing(task, same)
    hits, n = int(agreeing.sum()), len(agreeing)
    figures = comparator.figures(seen, task.limits) if n else {}
    lines = []
    for i in np.nonzero(~agreeing)[0][:_NAMED]:
        name = names[i] if i < len(names) else f"sample {i}"
        lines.append(f"{name}: {comparator.answer(seen, int(i))}")
    return TaskAgreement(
        task=comparator.name, outputs=list(task.outputs), sure=task.claim.sure, weighs=weighs, why=task.claim.why,
        samples=n, agreeing=hits, share=hits / n if n else None,
        bounds=clopper_pearson(hits, n, confidence) if n else None, likeness=comparator.likeness(seen) if n else None,
        figures={k: v if math.isfinite(v) else None for k, v in figures.items()},
        words=comparator.words(figures) if figures else "", limits=dict(task.limits), mismatches=lines,
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
