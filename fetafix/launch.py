"""Starting worker processes, ahead of need where that helps: an interpreter starts while its parent still imports.

Imports nothing but the standard library, so that the command line can launch workers before anything heavy is loaded.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fetafix.channel import Channel, nameless_file
from fetafix.worker import Status

ROOT = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True)
class Worker:
    """A worker process that waits for its first request. output: what it and its runtime print."""

    process: subprocess.Popen[bytes]
    channel: Channel
    status: Status
    output: IO[bytes]

    def dismiss(self) -> None:
        """End it; it has nothing to finish."""
        self.channel.shutdown()
        self.channel.close()
        self.process.wait()
        self.output.close()


_waiting: list[Worker] = []


def ahead(models: Sequence[str | Path]) -> None:
    """Launch a worker for each model that is about to be opened, in their order; `dismiss` those that nobody took.

    While a worker waits it imports what its model will want.
    """
    while len(_waiting) < len(models):
        _waiting.append(launch(model=str(models[len(_waiting)])))


def take(memory_limit: int = 0) -> Worker:
    """A worker, launched ahead or now; one with a memory limit (bytes of address space) is always a new one."""
    while _waiting and not memory_limit:
        worker = _waiting.pop(0)
        if worker.process.poll() is None:
            return worker
        worker.dismiss()
    return launch(memory_limit)


def dismiss() -> None:
    """End the workers that were launched ahead and not taken."""
    while _waiting:
        _waiting.pop().dismiss()


def launch(memory_limit: int = 0, model: str = "") -> Worker:
    """Start a worker process; it runs `python -m fetafix.worker`, so the caller's main module is not imported again.

    model: the file that it will probably be asked to open.
    """
    output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
    ours, theirs = socket.socketpair()
    counters = nameless_file()
    try:
        os.ftruncate(counters, Status.size)
        status = Status(counters)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fetafix.worker", str(theirs.fileno()), str(counters), str(memory_limit),
             model],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(), counters),
            env=environment(),
        )
    finally:
        theirs.close()
        os.close(counters)
    return Worker(process, Channel(ours), status, output)


def environment() -> dict[str, str]:
    """That of every process of ours: it finds this very fetafix, and a name has the same hash in all of them.

    Converters walk through sets of names: with other hashes each run orders and names the nodes of a lifted graph
    otherwise, and the same seed of ours would not give the same report.
    """
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *([known] if known else [])]), "PYTHONHASHSEED": "0"}
