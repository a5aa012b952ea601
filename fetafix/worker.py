"""A worker process: one model beside its runtime, answering requests of the process that started it.

    python -m fetafix.worker SOCKET STATUS MEMORY [MODEL]

SOCKET is an inherited descriptor, STATUS one of a shared file of three counters (`Status`), MEMORY a limit of address
space in bytes or 0, MODEL the file that the first request will probably name. Requests are (id, method, arguments),
replies (id, kind, payload). The worker ignores Ctrl-C, which is its parent's affair, and ends when its parent closes
the connection or dies: at once, except while it writes a model, when it first removes its temporary files.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fetafix.channel import Channel

if TYPE_CHECKING:
    from pathlib import Path

    from fetafix.formats.base import Artifact, OpenOptions
    from fetafix.report import ModelInfo

CLEANUP_SECONDS = 10.0
_SEND_EVERY = 0.1
_SEND_BYTES = 1 << 22


def _extra(package: str) -> str:
    """How to get a framework, where the package belongs to one."""
    extras = {
        "torch": ("torch", "torchvision", "onnx2torch", "onnxscript"),
        "tensorflow": ("tensorflow", "keras", "h5py", "tf2onnx", "ai_edge_litert", "flatbuffers"),
    }
    extra = next((e for e, packages in extras.items() if package.split(".")[0] in packages), None)
    return f"; install it with: pip install 'fetafix[{extra}]'" if extra else ""


class Status:
    """What is being run: first sample, one behind the last, all. In shared memory, so that it outlives a crash."""

    _fields = struct.Struct("<QQQ")
    size = _fields.size

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, self.size)

    def set(self, start: int, stop: int, total: int) -> None:
        """Note which samples run now; all zero when none does."""
        self._fields.pack_into(self._memory, 0, start, stop, total)

    def words(self) -> str:
        """"samples 17–24 of 100" counted from 1, or "" where nothing runs."""
        start, stop, total = self._fields.unpack_from(self._memory)
        if not total:
            return ""
        return f"sample {stop} of {total}" if stop - start == 1 else f"samples {start + 1}–{stop} of {total}"


class _Cancelled(Exception):
    """The parent wants no more of this run."""


class Worker:
    """Answers requests until the connection ends."""

    def __init__(self, channel: Channel, status: Status) -> None:
        self._channel = channel
        self._status = status
        self._backlog: deque[tuple[int, str, Any]] = deque()
        self._artifact: Artifact | None = None
        self._refusal: Exception | None = None
        self.busy_writing = False

    def asked(self) -> bool:
        """Whether a request waits."""
        return bool(select.select([self._channel], [], [], 0)[0])

    def serve(self) -> None:
        """Answer requests, one after the other."""
        while True:
            try:
                job, method, arguments = self._backlog.popleft() if self._backlog else self._channel.receive()
            except EOFError:
                return
            handler: Callable[..., Any] | None = getattr(self, f"_do_{method}", None)
            if handler is not None:
                self._answer(job, handler, arguments)

    def _answer(self, job: int, handler: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            reply = (job, "result", handler(job, **arguments))
        except _Cancelled:
            reply = (job, "result", None)
        except Exception as error:  # whatever a runtime raises is a result about this model
            reply = (job, "error", self._explained(error))
        self._status.set(0, 0, 0)
        self._channel.send(reply)

    def _explained(self, error: Exception) -> tuple[str, str, str]:
        """Class name, message and traceback. Errors that are not fetafix's own become RuntimeCrash."""
        from fetafix.errors import FetafixError

        words = self._status.words()
        during = f" (while running {words})" if words else ""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, FetafixError):
            return type(error).__name__, f"{error}{during}", trace
        if isinstance(error, MemoryError):
            return "RuntimeCrash", f"{self._path}: out of memory{during}; try a smaller batch", trace
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("fetafix"):
            missing = f"needs the Python package {error.name!r}, which is not installed{_extra(error.name)}"
            return "RuntimeCrash", f"{self._path}: {missing}", trace
        return "RuntimeCrash", f"{self._path}: {type(error).__name__}: {error}{during}", trace

    def _do_open(self, job: int, path: Path, options: OpenOptions, search: list[str]) -> ModelInfo:
        from fetafix import formats

        self._path, self._options = path, options
        sys.path[:] = search
        digest: list[str] = []
        hashing = threading.Thread(target=lambda: digest.append(formats.sha256(path)), daemon=True)
        try:
            formats.recognise(path)
            hashing.start()
            self._artifact = formats.open(path, options)
        except Exception as error:
            self._refusal = error
            raise
        hashing.join()
        self._digest = digest[0] if digest else formats.sha256(path)
        return self._info()

    def _do_reopen(self, job: int, path: Path) -> ModelInfo:
        """The file anew, which has changed meanwhile, or another one; its digest is not taken again."""
        from fetafix import formats

        self._path, self._artifact, self._refusal = path, None, None
        try:
            self._artifact = formats.open(path, self._options)
        except Exception as error:
            self._refusal = error
            raise
        return self._info()

    def _info(self) -> ModelInfo:
        import msgspec

        info = self._model().info
        used = self._options.used()
        return msgspec.structs.replace(
            info, sha256=self._digest, details={**info.details, **({"runtime_options": used} if used else {})}
        )

    def _model(self) -> Artifact:
        if self._refusal is not None:
            raise self._refusal
        assert self._artifact is not None, "the first request opens the model"
        return self._artifact

    def _do_run(self, job: int, work: Any, ahead: int) -> ModelInfo:
        """Run over samples; send chunks of outputs, of `work.chunk` samples, or as time goes by where that is 0.

        Returns the info, to which a run may add what the file does not declare.
        """
        from fetafix.feeding import run_job, stack

        total, credit, sent = work.count, ahead, time.monotonic()
        parts: list[dict[str, Any]] = []
        size = 0
        for _, stop, outputs in run_job(self._model(), work, lambda a, b: self._status.set(a, b, total)):
            parts.append(outputs)
            size += sum(v.nbytes for v in outputs.values())
            if work.chunk:
                due = stop == total or stop % work.chunk == 0
            else:
                due = stop == total or size > _SEND_BYTES or time.monotonic() - sent > _SEND_EVERY
            if due:
                self._channel.send((job, "chunk", (stop, stack(parts, str(self._path)))))
                parts, size, sent = [], 0, time.monotonic()
                credit -= ahead > 0
            credit += self._control(job, wait=ahead > 0 and credit == 0 and stop < total)
        return self._info()

    def _control(self, job: int, wait: bool) -> int:
        """How many further chunks the parent says it wants of the run in progress; `wait` for it to say so."""
        wanted = 0
        while select.select([self._channel], [], [], 0)[0] or (wait and not wanted):
            message = self._channel.receive()
            if message[:2] == (job, "cancel"):
                raise _Cancelled
            if message[:2] == (job, "more"):
                wanted += 1
            else:
                self._backlog.append(message)
        return wanted

    def _do_lift(self, job: int, folder: Path, example: dict[str, Any], again: bool) -> Any:
        from fetafix.errors import LiftError

        lift = getattr(self._model(), "relift" if again else "lift", None)
        if lift is None:
            raise LiftError(f"{self._path}: there is no second converter to ONNX")
        return lift(folder, example)

    def _do_tap(self, job: int, feeds: dict[str, Any], forced: dict[str, Any]) -> Any:
        from fetafix.errors import LiftError

        tap = getattr(self._model(), "tap_forced" if forced else "tap", None)
        if tap is None:
            what = "forced to other values" if forced else "looked into"
            raise LiftError(f"{self._path}: its layers cannot be {what} in its own runtime")
        return tap(feeds, forced) if forced else tap(feeds)

    def _do_write(self, job: int, edits: Any, out: Path, lifted: Path) -> Any:
        self.busy_writing = True
        try:
            return self._model().write(edits, out, lifted)
        finally:
            self.busy_writing = False


def _watch(channel: Channel, worker: Worker) -> None:
    """End this process when the other end of the connection is closed, even in the middle of a run."""
    poll = select.poll()
    poll.register(channel.fileno(), 0)  # hang-up is reported without being asked for
    poll.poll()
    if worker.busy_writing:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(CLEANUP_SECONDS)
    os._exit(1)


def _get_ready(worker: Worker, model: str) -> None:
    """Import what every model needs, and what this one will, until the first request is there."""
    import numpy  # noqa: F401

    from fetafix import feeding, formats  # noqa: F401

    if model and not worker.asked():
        formats.prepare(model)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(1)


def main(arguments: list[str]) -> None:
    """Serve the descriptors named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    connection, status, memory = map(int, arguments[:3])
    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    channel = Channel(socket.socket(fileno=connection))
    worker = Worker(channel, Status(status))
    threading.Thread(target=_watch, args=(channel, worker), daemon=True).start()
    _get_ready(worker, arguments[3] if len(arguments) > 3 else "")
    worker.serve()
    os._exit(0)  # nothing to save; runtimes take long to tear down


if __name__ == "__main__":
    main(sys.argv[1:])
