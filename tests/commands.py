"""Runs of the command line in processes of their own, as a user has them, and what they leave on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import fetafix
from fetafix.cli import cli

ROOT = Path(fetafix.__file__).parent.parent
COMMAND = [sys.executable, "-m", "fetafix"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Done:
    """A finished run."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """The report of `--json -`."""
        data: dict[str, Any] = json.loads(self.stdout)
        return data

    @property
    def text(self) -> str:
        """Everything that was printed, the line breaks of the text report undone."""
        return " ".join((self.stdout + " " + self.stderr).split())


def run(folder: Path, *args: object) -> Done:
    """`fetafix ARGS` in a folder. Fails where it shows a traceback."""
    done = subprocess.run([*COMMAND, *map(str, args)], cwd=folder, env=ENV, capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def invoke(folder: Path, *args: object) -> Done:
    """As `run`, in this process: quicker, where it is not the process that is tested."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, [str(a) for a in args], prog_name="fetafix")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def start(folder: Path, *args: object) -> subprocess.Popen[str]:
    """`fetafix ARGS`, started in a process group of its own."""
    return subprocess.Popen([*COMMAND, *map(str, args)], cwd=folder, env=ENV, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)


def state(*folders: Path) -> dict[str, str]:
    """Every file below some folders with its hash; but for what Python itself keeps of a module that was imported."""
    files = (p for folder in folders for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Come back as soon as the condition holds. Fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
