"""The whole benchmark, task by task, in processes; what was measured stays measured."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetafix import odds
from fetafix.bench import lines
from fetafix.bench.faults import trial
from fetafix.bench.faults.nursery import Nursery
from fetafix.bench.faults.rows import Row
from fetafix.bench.faults.settings import Settings
from fetafix.bench.faults.trial import Task
from fetafix.executor import executor, processors

RESULTS, TABLE, ODDS, ZOO = "results.jsonl", "results.md", "odds.json", "zoo"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, where, and in how many processes, or on which cluster; at most `limit` tasks of those left."""

    folder: Path
    settings: Settings
    jobs: int = 1
    limit: int | None = None
    cluster: str | None = None

    @property
    def threads(self) -> int:
        """Threads of each runtime: the processors shared among the jobs, each of which runs two models."""
        return max(1, processors() // (2 * self.jobs))

    def work(self, task: Task) -> Work:
        """A task with all that a process needs for it."""
        return Work(settings=self.settings, folder=self.folder / ZOO, task=task, threads=self.threads)

    @property
    def keys(self) -> list[tuple[object, ...]]:
        """What identifies the row of each task."""
        return [t.row(self.settings.scale).key for t in self.tasks]

    @property
    def tasks(self) -> list[Task]:
        """Everything that is crossed: network by network, the controls first."""
        s = self.settings
        made = []
        for model in s.models:
            made += [Task(model, name, 0, True) for name in trial.control_names(s.pairs)]
            made += [Task(model, code, seed) for code in s.codes for seed in s.seeds]
        return made


def faults(plan: Plan, resume: bool = False) -> Iterator[tuple[Row, int, int]]:
    """(row, how many are done, how many there are) as they come; each is in the folder's results before.

    Raises UsageError where the folder holds results and they are not to be resumed, or a cluster cannot be reached;
    LostCluster where it ends.
    """
    results = plan.folder / RESULTS
    known = lines.begun(results, Row, resume)
    tasks, scale = plan.tasks, plan.settings.scale
    done = [t for t in tasks if t.row(scale).key in known]
    left = [t for t in tasks if t.row(scale).key not in known][:plan.limit]
    total = len(done) + len(left)
    for number, task in enumerate(done, 1):
        yield known[task.row(scale).key], number, total
    for number, row in enumerate(_measured(plan, left), len(done) + 1):
        lines.append(results, row)
        yield row, number, total


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task on its way to a process. folder: of the network's files."""

    settings: Settings
    folder: Path
    task: Task
    threads: int


def _measured(plan: Plan, tasks: Sequence[Task]) -> Iterator[Row]:
    networks = {t.model: t for t in tasks}
    with executor(plan.jobs, plan.cluster) as crew:
        for made in crew.run(prepare, [plan.work(t) for t in networks.values()]):  # each by one process
            made.result()
        for outcome in crew.run(work, [plan.work(t) for t in tasks]):
            lost = outcome.failure
            yield tasks[outcome.index].row(plan.settings.scale, reason=lost) if lost else outcome.result()


def prepare(given: Work) -> None:
    """Make a network's files."""
    Nursery(given.settings, given.task.model, given.folder).prepare()


_open: dict[Any, Nursery] = {}


def work(given: Work) -> Row:
    """One task, in whichever process; a failure is its result. The user's own statistics take no part in it."""
    os.environ[odds.OFF] = "1"
    settings, task = given.settings, given.task
    key = (task.model, settings.scale, settings.zoo_seed, given.folder)
    if key not in _open:
        _open.clear()  # one network at a time in memory
        _open[key] = Nursery(settings, task.model, given.folder, given.threads)
        _open[key].prepare()
    with tempfile.TemporaryDirectory(prefix="fetafix-bench-") as own:
        try:
            with _at_most(settings.seconds):
                return trial.measure(_open[key], task, Path(own))
        except Exception as problem:  # also a bug of fetafix: it is a miss, and the others are measured all the same
            return task.row(settings.scale, reason=f"{type(problem).__name__}: {problem}")


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """TimeoutError after so many seconds, where the system has a timer for it."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"given up after {seconds:.0f} s")

    usual = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
