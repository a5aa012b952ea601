"""The workers of an existing Dask cluster (extra `[cluster]`).

A task that reaches a Dask worker runs in a process of its own there (`fetafix.executor.local`), which handles the
death of that process; when the Dask worker itself or its machine dies, the scheduler gives the task to another one, a
few times (`distributed.scheduler.allowed-failures`). Workers need the same fetafix and the same files under the same
names.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from fetafix import __version__
from fetafix.errors import LostCluster, LostTask, UsageError
from fetafix.executor import Call, Outcome
from fetafix.executor.local import Local

T = TypeVar("T")
R = TypeVar("R")
_CONNECT_S, _POLL_S = 10.0, 2.0
_idle: list[Local] = []  # in a Dask worker: processes that earlier tasks left


class Cluster:
    """Tasks on the workers of a Dask scheduler. patience: seconds without any worker until tasks are given up.

    limit: of each task, as for `Local`.
    """

    def __init__(self, address: str, patience: float = 60.0, limit: float | None = None) -> None:
        self.address, self.patience, self.limit = address, patience, limit
        self._client = _connected(address)

    def run(self, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[Outcome[R]]:
        """function(argument) for each argument, in the order in which they are done; see `Executor`."""
        place, search = os.getcwd(), tuple(p for p in sys.path if p)
        futures = {}
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        alone = time.monotonic()  # since when no worker was seen
        try:
            for index, argument in enumerate(arguments):
                call = Call(function, argument, place, search)
                future = self._client.submit(perform, call, __version__, self.limit, pure=False)
                futures[future.key] = index, future
                future.add_done_callback(done.put)
            while futures:
                try:
                    future = done.get(timeout=_POLL_S)
                except queue.Empty:
                    alone = time.monotonic() if self._workers() else alone
                    if time.monotonic() - alone > self.patience:
                        yield from (Outcome(i, error=self._deserted()) for i, _ in futures.values())
                        return
                else:
                    yield _outcome(future, futures.pop(future.key)[0])
                    alone = time.monotonic()
        finally:
            self._client.cancel([f for _, f in futures.values()])

    def _workers(self) -> int:
        try:
            return len(self._client.nthreads())
        except (OSError, TimeoutError):
            return 0

    def _deserted(self) -> LostCluster:
        return LostCluster(f"the cluster {self.address} has had no worker for {self.patience:.0f} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def perform(call: Call, version: str, limit: float | None = None) -> Outcome[Any]:
    """One task, in a Dask worker: in a process of its own, for a Dask worker runs tasks in threads."""
    if version != __version__:
        return Outcome(0, error=UsageError(f"this worker has fetafix {__version__}, the caller {version}"))
    try:
        crew = _idle.pop()
    except IndexError:
        crew = Local(1)
    crew.limit = limit
    outcome = next(iter(list(crew.run(call.function, [call.argument], call.folder, call.search))))
    _idle.append(crew)
    return outcome


def _connected(address: str) -> Any:
    """A client of the scheduler. Raises UsageError."""
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("a cluster needs Dask: pip install 'fetafix[cluster]'") from error
    try:
        return Client(address, timeout=_CONNECT_S, set_as_default=False, name="fetafix")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {address}; expected an address such as tcp://host:8786, as `dask scheduler` "
            f"prints it ({type(error).__name__}: {error})") from error


def _outcome(future: Any, index: int) -> Outcome[Any]:
    """What came of a future that is done."""
    from dataclasses import replace

    if future.status == "finished":
        return replace(future.result(), index=index)
    if future.status == "error":
        error = future.exception()
        kind = type(error).__name__
        died = "every worker of the cluster that it was given to died"
        words = died if kind == "KilledWorker" else f"{kind}: {error}"
        return Outcome(index, error=LostTask(words))
    return Outcome(index, error=LostCluster(f"the cluster gave it up ({future.status}): has the scheduler ended?"))
