"""Many independent tasks on one interface: worker processes here, or those of a Dask cluster.

    with executor(jobs=4) as crew:                                  # or executor(cluster="tcp://scheduler:8786")
        for outcome in crew.run(measure, arguments):                # as they come; outcome.index tells which
            print(outcome.result())

A function is importable by the worker, its arguments and results can be pickled. Every task runs in a process of
its own kind, in the main thread there, with the caller's working directory: what it does to signals, to the
environment or to the runtime of a model is nobody else's affair. A process that dies in the middle of a task loses
nothing: the task starts again in another one, up to `TRIES` times in all, and only then ends as a `LostTask` that says
how they died. What comes out does not depend on where the tasks ran, nor on how many ran at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from fetafix.errors import LostCluster

T = TypeVar("T")
R = TypeVar("R")
TRIES = 3


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What came of one task.

    index: its place among the arguments. error: what it raised (errors of other packages as RuntimeError with their
    name), or LostTask. tries: in how many processes it was begun here; on a cluster, on the last of its machines.
    """

    index: int
    value: R | None = None
    error: Exception | None = None
    tries: int = 1

    @property
    def failure(self) -> str:
        """The error in words, "" where there is none. Raises LostCluster: then nothing else will come, either."""
        if isinstance(self.error, LostCluster):
            raise self.error
        return "" if self.error is None else f"{type(self.error).__name__}: {self.error}"

    def result(self) -> R:
        """The value. Raises the task's error."""
        if self.error is not None:
            raise self.error
        return cast(R, self.value)


class Executor(Protocol):
    """Runs tasks; to be used as a context manager, which ends what still runs."""

    def run(self, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[Outcome[R]]:
        """function(argument) for each argument; outcomes in the order in which they are done."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def executor(jobs: int | None = None, cluster: str | None = None, limit: float | None = None) -> Executor:
    """Worker processes on this machine, `jobs` at a time, or the workers of a Dask cluster by its address.

    limit: after how many seconds a task is ended, and its outcome a LostTask; None for never. Raises UsageError where
    the cluster cannot be reached, or the extra for it is missing.
    """
    if cluster:
        from fetafix.executor.cluster import Cluster

        return Cluster(cluster, limit=limit)
    from fetafix.executor.local import Local

    return Local(default_jobs() if jobs is None else jobs, limit=limit)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """Tasks at a time where each runs two models side by side: one for two processors."""
    return max(1, processors() // 2)


@dataclass(frozen=True, slots=True)
class Call:
    """A task on its way to a process. folder: the caller's working directory; search: where it finds modules."""

    function: Callable[[Any], Any]
    argument: Any
    folder: str
    search: tuple[str, ...] = ()
