"""Samples on which labels differ: both models' best classes, and the repaired model's on the very same samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.exhibiting.attach import attached
from fetafix.exhibiting.pictures import picture
from fetafix.exhibits import Differing, Score
from fetafix.ir import Array
from fetafix.judge.labels import class_scores
from fetafix.judge.tasks.base import OUTPUT, Assignment, plain
from fetafix.judge.tasks.registry import CLASSIFICATION
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.report import Report
from fetafix.session import Session, Which

MOST, BEST = 8, 5


@dataclass(frozen=True)
class Repaired:
    """The repaired target: its process, its preprocessing where that changed, and its judgement."""

    process: ModelProcess
    preprocess: Any
    judgement: Judgement


def judged(report: Report, session: Session, before: Judgement, which: Which, after: Repaired | None = None) -> Report:
    """The report with samples of a set that differ; the same report where no exhibits were asked for."""
    if not session.options.exhibits:
        return report
    with session.timed("exhibits"):
        return attached(report, differing=differing(session, before, which, after))


def differing(session: Session, before: Judgement, which: Which, after: Repaired | None = None) -> list[Differing]:
    """Up to MOST samples of a set, in their order, on which labels differ before or after a repair.

    before: the judgement of the target on that set. [] where no output is a classifier's. Where there are more, those
    that still differ after the repair come before others, up to half of them.
    """
    task = _task(session, before)
    if task is None:
        return []
    positions = session.samplings.positions(which)
    wrong = _wrong(task, before, len(positions))
    left = _wrong(task, after.judgement, len(positions)) if after is not None else []
    chosen = [positions[i] for i in _chosen(wrong, left)]
    if not chosen:
        return []
    output = task.claim.roles[OUTPUT]
    source, target = (_scores(o[output]) for o in session.answers(chosen))
    repaired = None if after is None else session.answers(chosen, after.process, after.preprocess)[1]
    mended = None if repaired is None else _scores(repaired[output])
    return [
        Differing(sample=session.name(p), image=picture(session, p), source=_best(source, i), target=_best(target, i),
                  after=_best(mended, i))
        for i, p in enumerate(chosen)
    ]


def _task(session: Session, judgement: Judgement) -> Assignment | None:
    """The first classification that was compared."""
    known = (t for t in session.tasks if t.comparator.name == CLASSIFICATION)
    return next((t for t in known if t.key in judgement.comparison.tasks), None)


def _wrong(task: Assignment, judgement: Judgement, most: int) -> list[int]:
    """Which samples of the set differ; those of an annex, which come behind, are left out."""
    agreeing = judgement.comparison.agreeing(task, ())
    return [int(i) for i in np.nonzero(~agreeing)[0] if i < most]


def _chosen(wrong: list[int], left: list[int]) -> list[int]:
    kept = dict.fromkeys([*left[: MOST // 2], *wrong, *left])
    return sorted([*kept][:MOST])


def _scores(values: Array) -> Array | None:
    """(N, C)."""
    return class_scores(plain(values))


def _best(scores: Array | None, i: int) -> list[Score]:
    """The best classes of a sample; not those whose score is no number."""
    if scores is None:
        return []
    row = scores[i].astype(np.float64)
    order = [int(c) for c in np.argsort(-row, kind="stable") if np.isfinite(row[c])]
    return [Score(label=c, score=float(row[c])) for c in order[:BEST]]
