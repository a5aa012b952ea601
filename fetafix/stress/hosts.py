"""Worker processes that open one struck file after the other: replaced where they die, killed where they stall."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from fetafix import formats
from fetafix.errors import InputDataError
from fetafix.formats.base import OpenOptions
from fetafix.ir import Array
from fetafix.parallel import ModelProcess
from fetafix.report import ModelInfo
from fetafix.stress.answers import top1
from fetafix.stress.exam import Exam
from fetafix.stress.options import StressOptions

_CHUNK, _LOOKS = 32, 8  # samples between looks at how a trial goes, and how many looks there are at most


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


class Hosts:
    """Worker processes, lent to whoever runs a model of the same kind, and kept in between."""

    def __init__(self, options: StressOptions) -> None:
        self._options = _single_threaded(options.opening)
        self._memory = _memory() if options.scope == "file" else 0
        self._idle: dict[str, list[Host]] = {}
        self._all: list[Host] = []

    @contextlib.contextmanager
    def lent(self, path: Path) -> Iterator[Host]:
        """A host for a model of this file's format."""
        idle = self._idle.setdefault(formats.recognise(path), [])
        if not idle:
            self._all.append(Host(path, self._options, self._memory))
            idle.append(self._all[-1])
        host = idle.pop()
        try:
            yield host
        finally:
            idle.append(host)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, lent ones too."""
        for host in self._all:
            host.close()


def _memory() -> int:
    """The machine's memory in bytes: a struck header may ask for more than there is."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def _single_threaded(options: OpenOptions) -> OpenOptions:
    """Runtimes on one thread each, where nothing else is asked for: trials run side by side instead."""
    return options if options.threads else replace(options, threads=1)
