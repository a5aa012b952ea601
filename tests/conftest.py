"""Fixtures for all tests."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.browser import browser, chromium  # noqa: F401 - fixtures for all tests

ROOT = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that runs the tests in the background has it so, and
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the commands that tests interrupt would inherit it


settings.register_profile("fetafix", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("fetafix")

os.environ["FETAFIX_NO_STATISTICS"] = "1"  # tests neither read nor feed the statistics of whoever runs them
for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):  # nor do they report to the workflow that runs them
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def tfzoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of models that a module of tests/tfzoo makes, in a process of its own, once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def folder(module: str) -> Path:
        made = root / f"tfzoo-{module}"
        with (root / f"tfzoo-{module}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (made / ".done").exists():
                made.mkdir(exist_ok=True)
                command = [sys.executable, "-m", "tests.tfzoo", module, str(made)]
                run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                assert run.returncode == 0, f"tests.tfzoo.{module}: {run.stderr[-4000:]}"
                (made / ".done").touch()
        return made

    return folder


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make demo` leaves, made once for all test processes; what it printed is beside it (.txt).

    It began with a file `mine.txt` that is not the demonstration's.
    """
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "demonstration"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.with_suffix(".txt").exists():
            folder.mkdir()
            (folder / "mine.txt").write_text("not the demonstration's")
            command = [sys.executable, "-m", "fetafix.demo", str(folder)]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr[-4000:]
            folder.with_suffix(".txt").write_text(run.stdout)
    return folder
