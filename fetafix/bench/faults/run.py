"""The whole benchmark, task by task, in processes; what was measured stays measured."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fetafix import odds
from fetafix.bench import lines
from fetafix.bench.faults import trial
from fetafix.bench.faults.nursery import Nursery
from fetafix.bench.faults.rows import Row
from fetafix.bench.faults.settings import Settings
from fetafix.bench.faults.trial import Task

RESULTS, TABLE, ODDS, ZOO = "results.jsonl", "results.md", "odds.json", "zoo"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, where, and in how many processes; at most `limit` tasks of those that are left."""

    folder: Path
    settings: Settings
    jobs: int = 1
    limit: int | None = None

    @property
    def threads(self) -> int:
        """Threads of each runtime: the processors shared among the jobs, each of which runs two models."""
        return max(1, _processors() // (2 * self.jobs))

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

    The user's own statistics take no part in it.

    Raises UsageError where the folder holds results and they are not to be resumed.
    """
    os.environ[odds.OFF] = "1"  # for the worker processes as well
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


def _measured(plan: Plan, tasks: Sequence[Task]) -> Iterator[Row]:
    folder = plan.folder / ZOO
    if plan.jobs == 1:
        for task in tasks:
            yield _work(plan.settings, folder, task, plan.threads)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(plan.jobs, spawn) as pool:
        running: set[Future[Row]] = set()
        try:
            waiting, ready = iter(tasks), set[str]()
            while True:
                for task in islice(waiting, 2 * plan.jobs - len(running)):
                    if task.model not in ready:  # by one process, not by several at once
                        pool.submit(_prepare, plan.settings, folder, task.model).result()
                        ready.add(task.model)
                    running.add(pool.submit(_work, plan.settings, folder, task, plan.threads))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(settings: Settings, folder: Path, model: str) -> None:
    """Make a network's files."""
    Nursery(settings, model, folder).prepare()


_open: dict[Any, Nursery] = {}


def _work(settings: Settings, folder: Path, task: Task, threads: int) -> Row:
    """One task, in whichever process; a failure is its result."""
    key = (task.model, settings.scale, settings.zoo_seed, folder)
    if key not in _open:
        _open.clear()  # one network at a time in memory
        _open[key] = Nursery(settings, task.model, folder, threads)
        _open[key].prepare()
    nursery = _open[key]
    with tempfile.TemporaryDirectory(prefix="fetafix-bench-") as own:
        try:
            with _at_most(settings.seconds):
                return trial.measure(nursery, task, Path(own))
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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
