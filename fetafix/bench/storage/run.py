"""The whole benchmark, result by result; what was measured stays measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fetafix.bench import lines
from fetafix.bench.storage import analytic, networks
from fetafix.bench.storage.rows import Row
from fetafix.bench.storage.settings import Settings, split
from fetafix.bench.storage.speed import speed
from fetafix.errors import FetafixError
from fetafix.executor import executor
from fetafix.stress.options import StressOptions
from fetafix.stress.record import StressReport
from fetafix.stress.run import stress

RESULTS, FILES, TRIALS = "results.jsonl", "networks", "trials"
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and where. jobs: trials at the same time. cluster: results are measured on a Dask cluster."""

    folder: Path
    settings: Settings
    jobs: int = 1
    cluster: str | None = None

    def trials(self, task: Row) -> Path:
        """The folder that a task's trials are kept in; on a cluster each has its own, for several write at once."""
        return self.folder / TRIALS / (_digest(task.key) if self.cluster else "")

    @property
    def keys(self) -> list[tuple[object, ...]]:
        """What identifies the row of each task."""
        return [t.key for t in self.tasks]

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

    Those that are known come first. Raises UsageError where the folder holds results and they are not to be resumed,
    or a cluster cannot be reached; LostCluster where it ends.
    """
    results = plan.folder / RESULTS
    known = lines.begun(results, Row, resume)
    tasks = plan.tasks
    done = [known[t.key] for t in tasks if t.key in known]
    for number, row in enumerate(done, 1):
        yield row, number, len(tasks)
    left = [t for t in tasks if t.key not in known]
    found = (_timed(plan, t, progress) for t in left) if plan.cluster is None else _afar(plan, left)
    for number, row in enumerate(found, len(done) + 1):
        lines.append(results, row)
        yield row, number, len(tasks)


def _afar(plan: Plan, tasks: Sequence[Row]) -> Iterator[Row]:
    """The speed of this machine, then the rest on the cluster, each network made by one process first."""
    yield from (_timed(plan, t, None) for t in tasks if t.kind == "speed")
    rest = [t for t in tasks if t.kind != "speed"]
    first = {t.model: t for t in rest if t.kind == "measured"}
    with executor(cluster=plan.cluster) as crew:
        for _ in crew.run(prepare, [(plan, t) for t in first.values()]):
            continue  # what is wrong with a network is told by its results
        for outcome in crew.run(work, [(plan, t) for t in rest]):
            lost = outcome.failure
            yield msgspec.structs.replace(rest[outcome.index], reason=lost) if lost else outcome.result()


def prepare(given: tuple[Plan, Row]) -> None:
    """Make a network's files."""
    plan, task = given
    _network(plan, task)


def work(given: tuple[Plan, Row]) -> Row:
    """A task's row, in whichever process."""
    return _timed(*given, None)


def _timed(plan: Plan, task: Row, progress: Progress | None) -> Row:
    start = time.monotonic()
    return msgspec.structs.replace(_result(plan, task, progress), seconds=round(time.monotonic() - start, 2))


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
    network, s = _network(plan, task), plan.settings
    dtype, scheme, granularity = split(task.storage)
    more = {} if progress is None else {"progress": progress}
    options = StressOptions(
        ber=s.ber, data=network.data, labels=network.labels, samples=s.images, seed=s.seed, dtypes=(dtype,),
        schemes=(scheme,), granularity=granularity, trials=s.trials, preprocess=network.preprocess, jobs=plan.jobs,  # type: ignore[arg-type]
        keep=plan.trials(task), **more)  # type: ignore[arg-type]
    report: StressReport = stress([network.model], options)
    subject = msgspec.structs.replace(report.subjects[0], name=f"{task.model} {task.storage}")
    return msgspec.structs.replace(task, subject=subject, images=report.samples)


def _network(plan: Plan, task: Row) -> networks.Network:
    files = plan.folder / FILES
    files.mkdir(exist_ok=True)
    return networks.network(task.model, files, plan.settings.seed)


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]
