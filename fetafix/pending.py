"""Answers that are still on their way from a worker process."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, Self, TypeVar

from fetafix.errors import FetafixError
from fetafix.feeding import Assembly, Outputs

Progress = Callable[[int, int], None]
T = TypeVar("T")


class Chunk(NamedTuple):
    """Outputs of samples start to stop − 1."""

    start: int
    stop: int
    outputs: Outputs


class Pending(Generic[T]):
    """The answer to a request that a worker is busy with."""

    def __init__(
        self, method: str, finish: Callable[[Any], T], assembly: Assembly | None = None, total: int = 0
    ) -> None:
        self.method = method
        self.number = -1
        self._finish = finish
        self._assembly = assembly
        self._total = total
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._answer: tuple[str, Any] | None = None

    def then(self, after: Callable[[T], T]) -> Self:
        """From now on `result` gives what `after` makes of it; called before anybody waits."""
        finish = self._finish
        self._finish = lambda payload: after(finish(payload))
        return self

    def result(self, progress: Progress | None = None) -> T:
        """Wait for the answer; `progress(done, total)` is called as samples are done. Raises what the worker raised."""
        while (event := self.next_event())[0] == "chunk":
            if progress is not None:
                progress(event[1], self._total)
        return self._finish(event[1])

    def next_event(self) -> tuple[str, Any]:
        """The next ("chunk" | "result", payload); raises the error that ended the request."""
        event = self._answer or self._events.get()
        if event[0] != "chunk":
            self._answer = event
        if event[0] == "error":
            raise event[1]
        return event

    def deliver(self, kind: str, payload: Any) -> None:
        """Take what the worker sent; called by the thread that reads from it."""
        if kind == "chunk" and self._assembly is not None:
            try:
                self._assembly.add(payload[1])
            except FetafixError as error:
                kind, payload = "error", error
            else:
                payload = payload[0]
        self._events.put((kind, payload))


class Chunks(Iterator[Chunk]):
    """Outputs chunk by chunk while the model runs on, a few ahead; `close`, or leaving `with`, stops it early."""

    def __init__(self, pending: Pending[None], tell: Callable[[str], None]) -> None:
        self._pending, self._tell = pending, tell
        self._at = 0
        self._over = False

    def __next__(self) -> Chunk:
        """The next chunk. Raises what the worker raised."""
        if self._over:
            raise StopIteration
        kind, payload = self._pending.next_event()
        if kind != "chunk":
            self._over = True
            raise StopIteration
        start, (self._at, outputs) = self._at, payload
        self._tell("more")
        return Chunk(start, self._at, outputs)

    def close(self) -> None:
        """Want no more: the model stops after the batch in hand."""
        if not self._over:
            self._over = True
            self._tell("cancel")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
