"""One step in a process of its own: whatever the converter does there, the caller gets a result.

The child runs `python -m fetafix.convert.run JOB RESULT`. It leads a process group, so that a timeout or Ctrl-C ends
whatever programs it started as well. What it prints is kept, and its last lines explain a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from fetafix.launch import environment

_TAIL = 2000
_LINES = 8


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child process is to do.

    function: as a `Converter` names it. source, kind: the model to read and its format. out, target:
    where to write, in a folder that exists, and what format. example, calibration: .npz files with the source's inputs
    by name: a batch of two valid samples; the samples to measure int8 ranges on.
    """

    function: str
    source: str
    kind: str
    out: str
    target: str = ""
    options: dict[str, Any] = {}
    precision: str = ""
    example: str = ""
    calibration: str = ""
    arch: str | None = None
    trust: bool = False
    threads: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child says. error: why it failed, "" where it did not."""

    error: str = ""
    notes: list[str] = []
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Result:
    """What came of a step. status: "done", "failed", "crashed" or "timeout"."""

    status: str
    seconds: float
    message: str = ""
    notes: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def run(job: Job, timeout: float) -> Result:
    """Run a job and wait for it, `timeout` seconds at most."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fetafix-step-") as name, tempfile.TemporaryFile() as output:
        folder = Path(name)
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        code = _wait(folder, output, timeout)
        seconds = time.perf_counter() - start
        if code is None:
            return Result("timeout", seconds, f"it was still at work after {timeout:g} s and was ended")
        answer = _answer(folder / "answer.json")
        if answer is None or code:
            return Result("crashed", seconds, f"the converter's process {_ending(code)}{_last_words(output)}")
    if answer.error:
        return Result("failed", seconds, answer.error, tuple(answer.notes), tuple(answer.versions.items()))
    if not Path(job.out).exists():
        return Result("failed", seconds, "the converter ended without an error, but wrote nothing")
    return Result("done", seconds, "", tuple(answer.notes), tuple(answer.versions.items()))


def _wait(folder: Path, output: IO[bytes], timeout: float) -> int | None:
    """The child's exit code; None where it had to be ended."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "fetafix.convert.run", str(folder / "job.json"), str(folder / "answer.json")],
        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
        env=environment(),
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child's whole group, whatever is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(path: Path) -> Answer | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Answer)
    except (OSError, msgspec.MsgspecError):
        return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    hint = "; likely out of memory" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def _last_words(output: IO[bytes]) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - _TAIL))
    lines = output.read().decode("utf-8", "replace").strip().splitlines()[-_LINES:]
    return "; its last output:\n" + "\n".join(lines) if lines else ""
