"""Whatever a converter does in its own process, the caller gets a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.convert.guard import Job, Result, run
from tests.commands import alive, wait_until


def step(function: str, folder: Path, timeout: float = 60) -> Result:
    return run(Job(function=f"tests.convert.mishaps:{function}", source="s", kind="onnx", out=str(folder / "out.pt")),
               timeout)


@pytest.mark.parametrize(("function", "status", "said"), [
    ("raises", "failed", "KeyError: 'operator Frobnicate is not known'"), ("aborts", "crashed", "killed by SIGABRT"),
    ("aborts", "crashed", "std::bad_alloc"), ("exits", "crashed", "exit code 7"),
    ("writes_nothing", "failed", "wrote nothing"), ("writes_rubbish", "done", ""),
    ("no_such_function", "failed", "AttributeError")])
def test_the_ways_to_end(function: str, status: str, said: str, tmp_path: Path) -> None:
    result = step(function, tmp_path)
    assert result.status == status and said in result.message and result.seconds > 0


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    result = step("hangs", tmp_path, timeout=10)  # time enough to start on a busy machine
    assert result.status == "timeout" and "after 10 s" in result.message
    child = int((tmp_path / "out.pid").read_text())
    wait_until(lambda: not alive(child), 10)
