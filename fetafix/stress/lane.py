"""One trial after the other: strike a copy of the file, open it in a worker process that stays, ask, heal.

A worker that dies or hangs is a result about the file that it opened (`hosts`); the next trial gets a new one.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fetafix.errors import FetafixError, ModelError
from fetafix.ir import Array
from fetafix.storage import sweep
from fetafix.stress.exam import Exam
from fetafix.stress.hosts import Host
from fetafix.stress.journal import Trial
from fetafix.stress.medium import Medium, Target
from fetafix.stress.record import Outcome

_PATIENCE_S, _PATIENCE_RATIO = 60.0, 20.0


@dataclass(frozen=True, eq=False)
class Paper:
    """What a subject's trials are marked by. truth: the right answers, int64 (N,). clean: how many the stored encoding
    gets right without a fault. least: how many make a drop that is tolerated. seconds: that the fault-free run took.
    """

    digest: str
    exam: Exam
    output: str
    truth: Array
    clean: int
    least: int
    seconds: float
    seed: int
    batch: int | None = None

    @property
    def patience(self) -> float:
        """After how many seconds a trial counts as hung."""
        return _PATIENCE_S + _PATIENCE_RATIO * self.seconds


class Lane:
    """A copy of a target's files of its own, and a host: runs trials one by one."""

    def __init__(self, wanted: Target, folder: Path, host: Host, own: bool) -> None:
        """folder: for the copy. own: False takes the target's files themselves."""
        self._host, self._target = host, wanted
        if own:
            shutil.copytree(wanted.path.parent, folder)
        self._medium = Medium(wanted, folder if own else None)

    def trial(self, paper: Paper, ber: float, number: int, whole: bool) -> Trial:
        """Run one trial; `whole`: over all samples, else only until the drop exceeds the tolerance for certain."""
        start = time.monotonic()
        where = sweep.flips_of(paper.seed, ber, number, self._target.bits)
        self._medium.strike(where)
        try:
            outcome, correct, seen = self._asked(paper, whole)
        finally:
            self._medium.heal()
        return Trial(subject=paper.digest, ber=ber, trial=number, flips=int(where.size), outcome=outcome,
                     correct=correct, seen=seen, seconds=round(time.monotonic() - start, 4))

    def _asked(self, paper: Paper, whole: bool) -> tuple[Outcome, int, int]:
        self._host.ready()
        with self._host.patience(paper.patience):
            try:
                self._host.open(self._medium.path)
            except FetafixError:
                died = self._host.settle()
                return ("hung" if self._host.hung else "crashed" if died else "unloadable"), 0, 0
            try:
                correct, seen = self._marked(paper, whole)
            except FetafixError:
                self._host.settle()
                return ("hung" if self._host.hung else "crashed"), 0, 0
        return ("survived" if correct >= paper.least else "degraded"), correct, seen

    def _marked(self, paper: Paper, whole: bool) -> tuple[int, int]:
        """(right answers, samples seen): stops once even all samples left being right would not be enough."""
        correct = seen = 0
        with contextlib.closing(self._host.answers(paper.exam, paper.batch, paper.output, whole)) as parts:
            for part in parts:
                correct += int(np.count_nonzero(part == paper.truth[seen : seen + len(part)]))
                seen += len(part)
                if not whole and correct + len(paper.truth) - seen < paper.least:
                    break
        return correct, seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._medium.__exit__(None, None, None)


def stated(path: Path, original: Path, error: ModelError) -> ModelError:
    """The error of a model that does not run even without a fault, in terms of the user's file."""
    message = str(error).replace(str(path), str(original))
    return type(error)(f"{message}\n  (this is the file without any fault, so there is nothing to stress)")


def untouched(paper: Paper, ber: float, number: int) -> Trial:
    """A trial in which no bit flipped: its answers are those of the fault-free run."""
    return Trial(subject=paper.digest, ber=ber, trial=number, flips=0, outcome="survived", correct=paper.clean,
                 seen=len(paper.truth))
