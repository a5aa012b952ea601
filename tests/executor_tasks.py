"""Tasks for the tests of executors: what they do is easy to tell from outside."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

from fetafix.errors import UsageError
from fetafix.gate.pair import Job, examine
from fetafix.gate.record import PairResult


def squared(number: int) -> int:
    return number * number


def place(_: int) -> str:
    return os.getcwd()


def interrupted_by_alarm(_: int) -> str:
    """Works in the main thread only."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return "set"


def refusing(number: int) -> int:
    if number == 1:
        raise UsageError("one is refused")
    if number == 2:
        raise KeyError("two")
    return number


def saying_goodbye(number: int) -> int:
    if number == 1:
        os.write(2, b"the last words\n")
        os._exit(7)
    return number


def sleeping(number: int) -> int:
    """Number 1 never ends."""
    if number == 1:
        signal.pause()
    return number


def hanging(job: Job) -> PairResult:
    signal.pause()
    return examine(job)


class Deadly(NamedTuple):
    """A task that kills its process the first time it is tried; `marks` gets a file a try."""

    number: int
    marks: str
    fatal: bool


def killed_once(task: Deadly) -> int:
    mark = Path(task.marks) / str(task.number)
    if task.fatal and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number * 10


class Waiting(NamedTuple):
    """A task that tells who works on it and, unless it is the first, waits until it may go on."""

    number: int
    folder: str


def told_who(task: Waiting) -> int:
    """Writes "NUMBER PID PARENT" to the named pipe FOLDER/who, and waits until somebody writes to FOLDER/go."""
    folder = Path(task.folder)
    with (folder / "who").open("w") as who:
        who.write(f"{task.number} {os.getpid()} {os.getppid()}\n")
    if task.number:
        os.close(os.open(folder / "go", os.O_RDONLY))
    return task.number * 10


def dying(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def examined_at_the_second_try(job: Job) -> PairResult:
    """A gate's pair whose process is killed when it is first tried."""
    _kill_once(job, os.getpid())
    return examine(job)


def examined_by_another_worker(job: Job) -> PairResult:
    """The pair called "bias" kills the worker of the cluster, this process's parent, when it is first tried."""
    if job.name == "bias":
        _kill_once(job, os.getppid())
    return examine(job)


def _kill_once(job: Job, process: int) -> None:
    mark = Path(job.source).parent / f"{job.name}.tried"
    if not mark.exists():
        mark.touch()
        os.kill(process, signal.SIGKILL)
