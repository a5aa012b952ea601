"""Wall time and memory of commands that run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_POLL_S = 0.05
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # as installed: compiled once


@dataclass(frozen=True)
class Run:
    """Wall time in seconds, exit code and both streams of a finished command."""

    seconds: float
    code: int
    stdout: str
    stderr: str


def run(command: Sequence[str], expect: Sequence[int] = (0,)) -> Run:
    """Run a command with this Python. Raises RuntimeError with its messages where it exits otherwise than expected."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    seconds = time.perf_counter() - start
    if done.returncode not in expect:
        raise RuntimeError(f"{' '.join(command)[:200]} exits with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return Run(seconds, done.returncode, done.stdout, done.stderr)


def interleaved(
    commands: Mapping[str, Sequence[str]], rounds: int, expect: Mapping[str, Sequence[int]]
) -> dict[str, list[Run]]:
    """Run several commands turn by turn after one round to warm up, so that what slows the machine slows all alike."""
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            done = run(command, expect.get(name, (0,)))
            if number:
                found[name].append(done)
    return found


def ratio(runs: Mapping[str, Sequence[Run]], of: str, to: str) -> float:
    """The median over the rounds of one command's time to another's."""
    return median(a.seconds / b.seconds for a, b in zip(runs[of], runs[to], strict=True))


def peak_megabytes(command: Sequence[str]) -> float:
    """The largest memory of a command's processes together, in MB: proportional set sizes, sampled (Linux only)."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=_ENVIRONMENT)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_proportional(pid) for pid in _tree(process.pid)))
        time.sleep(_POLL_S)
    return peak / 1e6


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):  # it ended while we looked
                continue
            parents.setdefault(parent, []).append(int(entry))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
