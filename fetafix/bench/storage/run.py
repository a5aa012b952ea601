"""The whole benchmark, result by result; what was measured stays measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fetafix.bench import lines
from fetafix.bench.storage import analytic, networks
from fetafix.bench.storage.rows import Row
from fetafix.bench.storage.settings import Settings, split
from fetafix.bench.storage.speed import speed
from fetafix.errors import FetafixError
from fetafix.stress.options import StressOptions
from fetafix.stress.record import StressReport
from fetafix.stress.run import stress

RESULTS, FILES, TRIALS = "results.jsonl", "networks", "trials"
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and where. jobs: trials at the same time."""

    folder: Path
    settings: Settings
    jobs: int = 1

    @property
    def tasks(self) -> list[Row]:
        """Rows without their results: the speed, the analytic ones, the measured ones."""
        s = self.settings
        asked = _digest(s.seed, s.ber, s.shapes)
        found = [Row(kind="speed", model="100 MB")]
        found += [Row(kind="analytic", model=a, storage=t, asked=asked) for a in s.architectures for t in s.storages]
        asked = _digest(s.seed, s.ber, s.images, s.trials)
        found += [Row(kind="measured", model=n, storage=t, asked=asked) for n in s.networks for t in s.storages]
        return found


def storage(plan: Plan, resume: bool = False, progress: Progress | None = None) -> Iterator[tuple[Row, int, int]]:
    """(row, how many are done, how many there are) as they come; each is in the folder's results before.

    Raises UsageError where the folder holds results and they are not to be resumed.
    """
    results = plan.folder / RESULTS
    known = lines.begun(results, Row, resume)
    tasks = plan.tasks
    for number, task in enumerate(tasks, 1):
        row = known.get(task.key)
        if row is None:
            start = time.monotonic()
            row = msgspec.structs.replace(_result(plan, task, progress), seconds=round(time.monotonic() - start, 2))
            lines.append(results, row)
        yield row, number, len(tasks)


def _result(plan: Plan, task: Row, progress: Progress | None) -> Row:
    """A task's row; a failure is its result."""
    try:
        if task.kind == "speed":
            return msgspec.structs.replace(task, figures=speed())
        if task.kind == "analytic":
            shapes = analytic.shapes(task.model, plan.settings)
            found = analytic.figures(shapes, task.storage, plan.settings.rates, plan.settings.seed)
            return msgspec.structs.replace(task, figures=found)
        return _measured(plan, task, progress)
    except FetafixError as problem:
        return msgspec.structs.replace(task, reason=f"{type(problem).__name__}: {problem}")


def _measured(plan: Plan, task: Row, progress: Progress | None) -> Row:
    files = plan.folder / FILES
    files.mkdir(exist_ok=True)
    network, s = networks.network(task.model, files, plan.settings.seed), plan.settings
    dtype, scheme, granularity = split(task.storage)
    more = {} if progress is None else {"progress": progress}
    options = StressOptions(
        ber=s.ber, data=network.data, labels=network.labels, samples=s.images, seed=s.seed, dtypes=(dtype,),
        schemes=(scheme,), granularity=granularity, trials=s.trials, preprocess=network.preprocess, jobs=plan.jobs,  # type: ignore[arg-type]
        keep=plan.folder / TRIALS, **more)  # type: ignore[arg-type]
    report: StressReport = stress([network.model], options)
    subject = msgspec.structs.replace(report.subjects[0], name=f"{task.model} {task.storage}")
    return msgspec.structs.replace(task, subject=subject, images=report.samples)


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]
