"""Worker processes on this machine."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from fetafix import errors
from fetafix.channel import Channel
from fetafix.errors import FetafixError, LostTask
from fetafix.executor import TRIES, Call, Outcome
from fetafix.launch import environment

T = TypeVar("T")
R = TypeVar("R")
_TAIL_LINES, _TAIL_BYTES = 8, 4000
_GRACE_S = 1.0  # for a process that is to end: to remove its temporary files


class Child:
    """A process that waits for a task or is busy with one.

    It starts as `python -m fetafix.executor.child`, so that the caller's main module is not imported again.
    """

    def __init__(self, search: Sequence[str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fetafix.executor.child", str(theirs.fileno()), *search],
                stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, pass_fds=(theirs.fileno(),),
                env=environment(),
            )  # fmt: skip
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor of its connection, for polling."""
        return self.channel.fileno()

    def end(self, patience: float = 8.0) -> str:
        """End it, whatever it does. Returns how it ended, with its last words, for one that had died already."""
        self.channel.shutdown()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.channel.close()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (likely out of memory: fewer --jobs need less)" if code == -signal.SIGKILL else ""
        return f"{how}{hint}{self._last_words()}"

    def _last_words(self) -> str:
        with self._output as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
        return "; its last output:\n  " + "\n  ".join(lines) if lines else ""


class Local:
    """Up to `jobs` processes at a time, which stay for further tasks until the executor is closed.

    limit: after how many seconds a task is ended; it does not start again.
    """

    def __init__(self, jobs: int, tries: int = TRIES, limit: float | None = None) -> None:
        self.jobs, self.tries, self.limit = jobs, tries, limit
        self._idle: list[Child] = []
        self._due: dict[Child, float] = {}
        self.busy: dict[Child, tuple[int, int]] = {}  # child → (index of its task, which try it is)

    def run(
        self, function: Callable[[T], R], arguments: Sequence[T], folder: str = "", search: Sequence[str] | None = None
    ) -> Iterator[Outcome[R]]:
        """function(argument) for each argument, in the order in which they are done; see `Executor`.

        folder, search: in place of this process's own working directory and `sys.path`.
        """
        where = tuple(p for p in (sys.path if search is None else search) if p)
        waiting = deque((i, 1) for i in range(len(arguments)))
        place = folder or os.getcwd()
        try:
            while waiting or self.busy:
                while waiting and len(self.busy) < self.jobs:
                    index, nth = waiting.popleft()
                    self._begin(Call(function, arguments[index], place, where), index, nth)
                for child in select.select(list(self.busy), [], [], self._patience())[0]:
                    index, nth = self.busy.pop(child)
                    outcome = self._received(child, index, nth)
                    if outcome is None:
                        waiting.appendleft((index, nth + 1))
                    else:
                        yield outcome
                yield from self._overdue()
        finally:
            self._stop(list(self.busy))

    def _begin(self, call: Call, index: int, nth: int) -> None:
        child = self._idle.pop() if self._idle else Child(call.search)
        self.busy[child] = index, nth
        self._due[child] = time.monotonic() + (math.inf if self.limit is None else self.limit)
        try:
            child.channel.send(call)
        except OSError:  # it died while it waited; the reader notices that
            return
        except Exception:  # what cannot be pickled is the caller's mistake
            self._stop([child])
            raise

    def _patience(self) -> float | None:
        """Seconds until the next task is due."""
        if self.limit is None:
            return None
        return max(0.0, min(self._due[child] for child in self.busy) - time.monotonic())

    def _overdue(self) -> Iterator[Outcome[Any]]:
        """End the processes whose tasks take too long."""
        for child in [c for c in self.busy if self._due[c] <= time.monotonic()]:
            index, nth = self.busy.pop(child)
            child.end(_GRACE_S)
            yield Outcome(index, error=LostTask(f"it took longer than {self.limit:g} s and was ended"), tries=nth)

    def _received(self, child: Child, index: int, nth: int) -> Outcome[Any] | None:
        """What a child answers; None where it died and the task is to start again."""
        try:
            kind, *payload = child.channel.receive()
        except EOFError:
            how = child.end()
            if nth < self.tries:
                return None
            lost = LostTask(f"each of the {nth} processes that it was given to died; the last one {how}")
            return Outcome(index, error=lost, tries=nth)
        self._idle.append(child)
        if kind == "result":
            return Outcome(index, payload[0], tries=nth)
        return Outcome(index, error=_error(*payload), tries=nth)

    def _stop(self, children: Sequence[Child]) -> None:
        for child in children:
            self.busy.pop(child, None)
            child.channel.shutdown()  # all at once: each may need a moment to clean up
        for child in children:
            child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle, self._idle = self._idle, []
        self._stop([*self.busy, *idle])


def _error(name: str, message: str, trace: str) -> Exception:
    """The error that a task raised, with its traceback as a note."""
    kind = getattr(errors, name, None)
    own = isinstance(kind, type) and issubclass(kind, FetafixError)
    error: Exception = kind(message) if own and kind is not None else RuntimeError(f"{name}: {message}")
    error.add_note(f"in the worker process:\n{trace}")
    return error
