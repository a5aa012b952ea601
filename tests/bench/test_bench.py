"""The benchmark's own tools measure what they say."""

from __future__ import annotations

import sys

import pytest

from fetafix.bench.measure import Run, interleaved, peak_megabytes, ratio, run
from fetafix.bench.speed import PLAIN_ONNX, PLAIN_TORCH, Row, table


def test_a_failing_command_is_not_a_figure() -> None:
    with pytest.raises(RuntimeError, match=r"exits with 3: told so"):
        run(["-c", "import sys; sys.exit(sys.stderr.write('told so') and 3)"])
    assert run(["-c", "import sys; sys.exit(3)"], expect=(3,)).code == 3


def test_commands_take_turns(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("turns") / "log"
    commands = {n: ["-c", f"open({str(log)!r}, 'a').write('{n}')"] for n in "ab"}
    found = interleaved(commands, 2, {})
    assert log.read_text() == "ababab" and [len(v) for v in found.values()] == [2, 2]


def test_ratio_is_the_median_of_the_rounds() -> None:
    runs = {"a": [Run(s, 0, "", "") for s in (2.0, 30.0, 3.0)], "b": [Run(s, 0, "", "") for s in (1.0, 1.0, 1.0)]}
    assert ratio(runs, "a", "b") == 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_children_counts() -> None:
    child = "import time; x = bytearray(b'x') * 150_000_000; time.sleep(0.6)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert 140 < peak_megabytes(["-c", parent]) < 400


def test_the_table_says_what_was_missed() -> None:
    text = table([Row("check", 1.25, 1.5, "×", "so"), Row("repair", 12, 10, "s")])
    assert [line.split()[-2:] for line in text.splitlines()[1:]] == [["met", "so"], ["s", "missed"]]


@pytest.mark.parametrize("script", [PLAIN_ONNX, PLAIN_TORCH])
def test_the_plain_scripts_are_python(script: str) -> None:
    compile(script, "plain", "exec")
