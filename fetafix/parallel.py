"""Models in worker processes, side by side: what runs a model natively without sharing its fate.

    with ModelProcess("a.onnx") as source, ModelProcess("b.pt") as target:
        first, second = source.start_run(samples), target.start_run(samples)
        outputs = first.result(), second.result()

A worker starts as `python -m fetafix.worker` (not by multiprocessing, which would import the caller's main module
again) and opens its model at once. Arrays go through shared memory. What the runtime prints is caught in a nameless
file whose last lines explain a crash; a worker that dies is a RuntimeCrash of its model. Nothing stays behind, whoever
dies first.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fetafix import errors, launch
from fetafix.errors import FetafixError, InputDataError, RuntimeCrash
from fetafix.feeding import Assembly, Job, Outputs, RowsOfFile, Source
from fetafix.formats.base import Lifted, OpenOptions, Taps, Written
from fetafix.ir import Array
from fetafix.pending import Chunk, Chunks, Pending, Progress
from fetafix.report import ModelInfo
from fetafix.worker import CLEANUP_SECONDS

if TYPE_CHECKING:  # edits are needed to write a model, not to run one
    from fetafix.edits import Edit

__all__ = ["Chunk", "Chunks", "ModelProcess", "Pending", "RowsOfFile", "Source", "threads_each"]

T = TypeVar("T")
_TAIL_LINES, _TAIL_BYTES = 12, 4000
_DOING = {
    "open": "opening the model", "lift": "lifting it to ONNX", "write": "writing the model", "run": "running",
    "tap": "looking into its layers", "reopen": "opening the model",
}  # fmt: skip


def threads_each(models: int = 2) -> int:
    """Threads for each of several models that run at the same time: the processors this process may use, shared."""
    return max(1, len(os.sched_getaffinity(0)) // models if hasattr(os, "sched_getaffinity") else 1)


class ModelProcess:
    """A model opened in a process of its own, which starts at once; every method waits until it is open.

    `memory_limit` bounds the worker's address space in bytes. Any method raises the FetafixError that the worker
    raised, or RuntimeCrash where it died. Not to be shared between threads.
    """

    def __init__(self, path: Path | str, options: OpenOptions | None = None, *, memory_limit: int = 0) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._waiting: dict[int, Pending[Any]] = {}
        self._latest: ModelInfo | None = None
        self._garbled = ""
        self._end: FetafixError | None = None
        self._closed = False
        self._start(memory_limit)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._opened: Pending[ModelInfo] = self._ask(
            Pending("open", lambda info: info), path=self.path, options=options or OpenOptions(), search=sys.path
        )

    def _start(self, memory_limit: int) -> None:
        worker = launch.take(memory_limit)
        self._process, self._channel, self._status, self._output = (
            worker.process, worker.channel, worker.status, worker.output)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker still serves requests."""
        return self._end is None and self._process.poll() is None

    def info(self) -> ModelInfo:
        """Path, format, digest, interface and details.

        A format that does not declare its outputs tells them once the model has run.
        """
        opened = self._opened.result()
        return self._latest or opened

    def reopen(self, path: Path | str) -> ModelInfo:
        """Open a file anew, or another one, in the same process; its info lacks a digest of its own.

        Raises what opening it raises; the process then serves a further `reopen`.
        """
        self.path, self._latest = Path(path), None
        self._opened = self._ask(Pending("reopen", lambda info: info), path=self.path)
        return self._opened.result()

    def run(
        self,
        samples: Mapping[str, Source],
        batch: int | None = None,
        batched: bool = True,
        progress: Progress | None = None,
    ) -> Outputs:
        """All outputs by name, over all samples; see `start_run`."""
        return self.start_run(samples, batch, batched).result(progress)

    def start_run(
        self, samples: Mapping[str, Source], batch: int | None = None, batched: bool = True, differently: bool = False
    ) -> Pending[Outputs]:
        """Begin to run the model over samples: input name → array (N, *item) or RowsOfFile.

        batched: slices [i:i+batch] are fed, outputs are (N, *output item); an output without a leading batch axis is
          stacked. Otherwise samples[i] is one whole feed and outputs are (N, *output).
        batch: None lets the model choose: what its shapes demand, else a size that suits caches, else 1.
        differently: otherwise optimised and threaded than usual, where the format offers that; for the noise floor.
        """
        job = self._job(samples, batch, batched, 0, differently)
        assembly = Assembly(job.count, str(self.path))

        def finish(info: ModelInfo | None) -> Outputs:
            self._latest = info or self._latest
            return assembly.outputs

        return self._ask(Pending("run", finish, assembly, job.count), work=job, ahead=0)

    def run_chunks(
        self,
        samples: Mapping[str, Source],
        batch: int | None = None,
        batched: bool = True,
        chunk: int = 16,
        ahead: int = 2,
    ) -> Chunks:
        """Like `start_run`, but yields the outputs of `chunk` samples at a time.

        It starts now, not at the first `next`, and the worker runs on, at most `ahead` chunks in advance. `close()` the
        iterator to stop early.
        """
        job = self._job(samples, batch, batched, chunk)
        pending: Pending[None] = Pending("run", lambda _: None)
        self._ask(pending, work=job, ahead=ahead)
        return Chunks(pending, lambda what: self._tell(pending.number, what))

    def lift(self, folder: Path, example: Mapping[str, Array]) -> Lifted:
        """An ONNX view of the model, written into `folder` unless the model is one. Raises LiftError."""
        return self.start_lift(folder, example).result()

    def start_lift(self, folder: Path, example: Mapping[str, Array], again: bool = False) -> Pending[Lifted]:
        """Begin to lift; `again`: by another converter than at first, LiftError where there is none."""
        feeds = {k: np.asarray(v, order="C") for k, v in example.items()}
        return self._ask(Pending("lift", lambda lifted: lifted), folder=Path(folder), example=feeds, again=again)

    def tap(self, feeds: Mapping[str, Array], forced: Mapping[str, Array] | None = None) -> Taps:
        """What the model computes layer by layer in its own runtime from one feed.

        forced: values, by the tensors' names in the taps, that take the place of what the model computes there. Raises
        LiftError where its format offers no such view, or cannot force values.
        """
        return self.start_tap(feeds, forced).result()

    def start_tap(self, feeds: Mapping[str, Array], forced: Mapping[str, Array] | None = None) -> Pending[Taps]:
        """Begin to tap."""
        both = [{k: np.asarray(v, order="C") for k, v in (table or {}).items()} for table in (feeds, forced)]
        return self._ask(Pending("tap", lambda taps: taps), feeds=both[0], forced=both[1])

    def write(self, edits: Sequence[Edit], out: Path, lifted: Path) -> Written:
        """Write the model with edits (in terms of the lifted graph) to `out`. Raises EditError, OutputError."""
        pending: Pending[Written] = Pending("write", lambda written: written)
        return self._ask(pending, edits=tuple(edits), out=Path(out), lifted=Path(lifted)).result()

    def close(self) -> None:
        """End the worker, whatever it is doing, and wait for it; the model file stays as it was."""
        if self._closed:
            return
        self._closed = True
        writing = any(p.method == "write" for p in [*self._waiting.values()])
        self._channel.shutdown()
        self._reader.join(CLEANUP_SECONDS if writing else 2)
        if self._reader.is_alive():
            self._process.kill()
            self._reader.join()
        self._channel.close()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _job(
        self, samples: Mapping[str, Source], batch: int | None, batched: bool, chunk: int, differently: bool = False
    ) -> Job:
        sources = {k: s if isinstance(s, RowsOfFile) else np.asarray(s, order="C") for k, s in samples.items()}
        job = Job(sources, batch, batched, chunk, differently)
        if not job.count:
            raise InputDataError(f"{self.path}: expected at least one sample to run, got none")
        return job

    def _ask(self, pending: Pending[T], **arguments: Any) -> Pending[T]:
        pending.number = number = next(self._ids)
        with self._lock:
            if self._end is not None or self._closed:
                pending.deliver("error", self._end or RuntimeCrash(f"{self.path}: the model is closed"))
                return pending
            self._waiting[number] = pending
        with contextlib.suppress(OSError):  # a dead worker is noticed and told by the reader
            self._channel.send((number, pending.method, arguments))
        return pending

    def _tell(self, number: int, what: str) -> None:
        with contextlib.suppress(OSError):
            self._channel.send((number, what, {}))

    def _read(self) -> None:
        """Hand messages to those who wait for them, until the worker is gone. Runs in a thread."""
        while True:
            try:
                number, kind, payload = self._channel.receive()
            except EOFError:
                break
            except Exception as error:  # an answer that cannot be read must not leave everyone waiting
                self._garbled = f"; its answer could not be read ({type(error).__name__}: {error})"
                self._process.kill()
                break
            if kind == "error":
                payload = _error(*payload)
            pending = self._waiting[number] if kind == "chunk" else self._waiting.pop(number)
            pending.deliver(kind, payload)
        self._process.wait()
        with self._lock:
            self._end = self._obituary()
            for pending in self._waiting.values():
                pending.deliver("error", self._end)
            self._waiting.clear()

    def _obituary(self) -> RuntimeCrash:
        """What happened to a worker that is gone: how it ended, while doing what, and its last words."""
        if self._closed:
            return RuntimeCrash(f"{self.path}: the model was closed")
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        method = next((p.method for p in self._waiting.values()), "")
        doing = f" while {_DOING[method]} {self._status.words()}".rstrip() if method else ""
        hint = "; likely out of memory: try a smaller batch or fewer samples" if code == -signal.SIGKILL else ""
        return RuntimeCrash(f"{self.path}: its runtime {how}{doing}{self._garbled or hint}{self._last_words()}")

    def _last_words(self) -> str:
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - _TAIL_BYTES))
        lines = self._output.read().decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
        return "\nlast output:\n  " + "\n  ".join(lines) if lines else ""


def _error(name: str, message: str, trace: str) -> FetafixError:
    """The error that the worker raised, with its traceback as a note."""
    error: FetafixError = getattr(errors, name, RuntimeCrash)(message)
    error.add_note(f"in the worker process:\n{trace}")
    return error
