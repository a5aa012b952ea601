"""One trial after the other: strike a copy of the file, open it in a worker process that stays, ask, heal.

A worker that dies or hangs is a result about the file that it opened; the next trial gets a new one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from fetafix.errors import FetafixError, InputDataError, ModelError
from fetafix.formats.base import OpenOptions
from fetafix.ir import Array
from fetafix.parallel import ModelProcess
from fetafix.report import ModelInfo
from fetafix.storage import sweep
from fetafix.stress.answers import top1
from fetafix.stress.exam import Exam
from fetafix.stress.journal import Trial
from fetafix.stress.medium import Medium, Target
from fetafix.stress.record import Outcome

_CHUNK, _LOOKS = 32, 8  # samples between looks at how a trial goes, and how many looks there are at most
_PATIENCE_S, _PATIENCE_RATIO = 60.0, 20.0


class Host:
    """A worker process that opens one file after the other; a new one where the last one died."""

    def __init__(self, first: Path, options: OpenOptions, memory_limit: int = 0) -> None:
        """first: a file without a fault, which a new process opens before any other."""
        self._first, self._options, self._memory = first, options, memory_limit
        self._process: ModelProcess | None = None
        self._hung = False

    @property
    def pid(self) -> int:
        """The process's id; 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    def ready(self) -> ModelProcess:
        """The process, started where there is none: however long its runtime takes, no struck file is to blame.

        Raises ModelError where the file without a fault cannot be opened.
        """
        if self._process is None:
            self._process = ModelProcess(self._first, self._options, memory_limit=self._memory)
            self._process.info()
        return self._process

    def open(self, path: Path) -> ModelInfo:
        """Open a file. Raises what is wrong with it."""
        fresh = self._process is None
        process = self.ready()
        return process.info() if fresh and path == self._first else process.reopen(path)

    def run(self, exam: Exam, batch: int | None) -> dict[str, Array]:
        """All outputs over all samples."""
        assert self._process is not None, "opened before"
        return self._process.run(exam.feeds, batch, exam.batched)

    def answers(self, exam: Exam, batch: int | None, output: str, whole: bool = False) -> Generator[Array]:
        """Top-1 answers, some samples at a time; close it to stop early. whole: nobody will."""
        assert self._process is not None, "opened before"
        size = exam.count if whole else max(_CHUNK, exam.count // _LOOKS)
        with self._process.run_chunks(exam.feeds, batch, exam.batched, size, _LOOKS + 1) as chunks:
            for chunk in chunks:
                if output not in chunk.outputs or len(chunk.outputs[output]) != chunk.stop - chunk.start:
                    raise InputDataError(f"output {output!r} is not what it was")
                try:
                    yield top1(chunk.outputs[output])
                except ValueError as error:
                    raise InputDataError(str(error)) from error

    @contextlib.contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Kill the process where what is done within takes longer; `hung` tells."""
        self._hung = False
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @property
    def hung(self) -> bool:
        """Whether patience ran out last time."""
        return self._hung

    def settle(self) -> bool:
        """After an error: whether the process died. Another one is started when it is needed."""
        if self._process is not None and not self._process.alive:
            self.close()
            return True
        return False

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _kill(self) -> None:
        self._hung = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)


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


def single_threaded(options: OpenOptions) -> OpenOptions:
    """Runtimes on one thread each, where nothing else is asked for: trials run side by side instead."""
    return options if options.threads else replace(options, threads=1)
