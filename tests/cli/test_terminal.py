"""A terminal gets colour, its own width and a bar; a pipe gets none of them."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix.cli import terminal
from fetafix.render.style import WIDTH, within, wrap
from tests.commands import ENV
from tests.small_models import node, save

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
EAGER = "import fetafix.cli.progress as p; p._PATIENCE_S = 0.0; from fetafix.cli import main; main()"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(("variables", "on_terminal", "in_pipe"), [
    ({}, True, False), ({"NO_COLOR": "1"}, False, False), ({"NO_COLOR": ""}, True, False),
    ({"FORCE_COLOR": "1"}, True, True), ({"FORCE_COLOR": "0"}, False, False), ({"TERM": "dumb"}, False, False),
    ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True), ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
])
def test_colour(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], on_terminal: bool, in_pipe: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (terminal.colour(Terminal()), terminal.colour(io.StringIO())) == (on_terminal, in_pipe)


@pytest.mark.parametrize(("told", "columns"), [("72", 72), ("300", WIDTH), ("12", 40)])
def test_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch, told: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", told)
    assert terminal.columns(Terminal()) == columns and terminal.columns(io.StringIO()) == WIDTH


def test_a_terminal_that_does_not_tell_its_width_has_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((0, 0)))
    assert terminal.columns(Terminal()) == 80


def test_text_is_wrapped_at_the_width_and_only_there() -> None:
    words = "word " * 60
    with within(50):
        assert max(map(len, wrap(words, 4))) <= 50
    assert 50 < max(map(len, wrap(words, 4))) <= WIDTH


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that differ, and samples."""
    folder = tmp_path_factory.mktemp("terminal")
    for name, seed in (("a", 0), ("b", 1)):
        weights = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
        save(folder / f"{name}.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": (None, 6)}, {"y": (None, 5)},
             {"w": weights})
    np.save(folder / "x.npy", np.random.default_rng(2).normal(size=(20, 6)).astype(np.float32))
    return folder


@dataclass(frozen=True)
class Seen:
    """What a run showed; "" where nothing was drawn to."""

    stdout: str
    stderr: str


def run(place: Path, on: tuple[str, ...], columns: int = 90, **variables: str) -> Seen:
    """`fetafix check`, impatient to show a bar, with some of its streams on terminals and the others in pipes."""
    given: dict[str, Any] = {}
    pairs = {name: os.openpty() if name in on else os.pipe() for name in ("stdout", "stderr")}
    for name, (_, writing) in pairs.items():
        if name in on:
            fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        given[name] = writing
    env = {k: v for k, v in ENV.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    env |= {"TERM": "xterm-256color", **variables}
    arguments = ["check", "a.onnx", "b.onnx", "--data", "x.npy"]
    process = subprocess.Popen([sys.executable, "-c", EAGER, *arguments], cwd=place, env=env,
                               stdin=subprocess.DEVNULL, start_new_session=True, **given)
    texts: dict[str, str] = {}
    threads = [threading.Thread(target=lambda n=n, fd=p[0]: texts.update({n: _drained(fd)})) for n, p in pairs.items()]
    for thread in threads:
        thread.start()
    for _, writing in pairs.values():
        os.close(writing)
    assert process.wait(60) == 1
    for thread in threads:
        thread.join(60)
    return Seen(**texts)


def _drained(reading: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(reading, 1 << 16)
        except OSError:  # the other side of a terminal is gone
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(reading)
    return b"".join(chunks).decode()


def test_a_terminal(place: Path) -> None:
    seen = run(place, ("stdout", "stderr"), columns=70)
    assert "\x1b[1;31mDIVERGENT\x1b[0m" in seen.stdout
    assert "comparing" in seen.stderr and "\x1b[?25l" in seen.stderr and "0:00:" in seen.stderr
    told = [COLOUR.sub("", line).rstrip("\r") for line in seen.stdout.split("\n")]
    assert 60 < max(map(len, told)) <= 70


def test_pipes(place: Path) -> None:
    seen = run(place, ())
    assert seen.stderr == "" and "\x1b" not in seen.stdout and "DIVERGENT" in seen.stdout
    assert "[bold]" not in seen.stdout


def test_a_report_in_a_pipe_and_messages_on_a_terminal(place: Path) -> None:
    seen = run(place, ("stderr",))
    assert "\x1b" not in seen.stdout and "DIVERGENT" in seen.stdout and "comparing" in seen.stderr


def test_a_dumb_terminal(place: Path) -> None:
    seen = run(place, ("stdout", "stderr"), TERM="dumb")
    assert "\x1b" not in seen.stdout and seen.stderr == ""


def test_colour_that_is_forced_into_a_pipe(place: Path) -> None:
    assert "\x1b[1;31mDIVERGENT" in run(place, (), FORCE_COLOR="1").stdout


def test_no_colour_on_a_terminal(place: Path) -> None:
    seen = run(place, ("stdout", "stderr"), NO_COLOR="1")
    assert "\x1b" not in seen.stdout and "comparing" in seen.stderr
    assert not [c for c in COLOUR.findall(seen.stderr) if re.search(r"3[0-7]|[34]8;", c)]
