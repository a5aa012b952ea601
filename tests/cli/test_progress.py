"""The progress bar shows on terminals, for long work, in every command that may take long, and nowhere else."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fetafix.cli import cli, terminal
from fetafix.cli import progress as module
from fetafix.cli.progress import Progress
from tests import small_models
from tests.small_models import node, save


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, wanted: bool = True) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "_PATIENCE_S", patience)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(wanted) as progress:
        for done in range(4):
            progress("running both models", done, 3)
        progress("aligning [bold]x[/bold]")
    return stream.getvalue()


def test_long_work_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = drawn(monkeypatch, Terminal(), 0.0)
    assert "running both models" in shown and "3/3" in shown and "aligning [bold]x[/bold]" in shown


@pytest.mark.parametrize(("stream", "patience", "wanted"), [
    (io.StringIO(), 0.0, True), (Terminal(), 1e6, True), (Terminal(), 0.0, False)])
def test_silence(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, wanted: bool) -> None:
    assert drawn(monkeypatch, stream, patience, wanted) == ""


def test_rich_is_imported_only_to_be_shown() -> None:
    code = ("import sys\nfrom fetafix.cli.progress import Progress\nwith Progress(True) as p: p('x', 1, 2)\n"
            "assert 'rich' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)


class Bar:
    """A bar that remembers what it showed, line by line as it was at the time."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}
        self.shown: list[list[str]] = []
        self.started, self.stopped = threading.Event(), False

    def start(self) -> None:
        self.started.set()

    def stop(self) -> None:
        self.stopped = True

    def add_task(self, what: str, total: int | None) -> int:
        number = len(self.shown) + len(self.lines)
        self.lines[number] = what
        return number

    def remove_task(self, number: int) -> None:
        del self.lines[number]

    def update(self, number: int, completed: int, total: int | None, refresh: bool) -> None:
        self.shown.append(list(self.lines.values()))


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    """What an impatient bar on a terminal shows."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(terminal, "moving", lambda _: True)
    return fresh(monkeypatch)


def fresh(monkeypatch: pytest.MonkeyPatch) -> Bar:
    made = Bar()
    monkeypatch.setattr(module, "_opened", lambda: made)
    return made


def test_it_comes_by_itself_while_the_work_says_nothing(bar: Bar) -> None:
    with Progress(True, "loading"):
        assert bar.started.wait(30)
    assert bar.shown == [["loading"]] and bar.stopped


def test_a_stage_takes_the_place_of_what_is_done_or_cannot_tell(bar: Bar) -> None:
    with Progress(True, "loading") as progress:
        for stage, done, total in (("a", 0, 2), ("b", 0, None), ("c", 1, 3), ("a", 2, 2), ("d", 0, None), ("c", 3, 3)):
            progress(stage, done, total)
        progress("e", 0, None)
        lines = [*bar.lines.values()]
    assert lines == ["e"] and ["a", "c"] in bar.shown and ["a", "b"] in bar.shown
    assert not [s for s in bar.shown if {"a", "d"} <= set(s) or {"b", "c"} <= set(s)]


def test_nothing_is_drawn_once_it_has_ended(bar: Bar) -> None:
    with Progress(True) as progress:
        pass
    count = len(bar.shown)
    progress("late", 1, 2)
    assert len(bar.shown) == count


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that differ in a bias, a hardened one, and samples."""
    folder = tmp_path_factory.mktemp("progress")
    small_models.cnn(folder / "a.onnx")
    small_models.cnn(folder / "b.onnx", change={"b1": np.linspace(-1, 1, 8, dtype=np.float32)})
    save(folder / "linear.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": (None, 6)}, {"y": (None, 5)},
         {"w": np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)})
    np.save(folder / "x.npy", np.random.default_rng(2).normal(size=(8, 3, 16, 16)).astype(np.float32))
    (folder / "fetafix.yaml").write_text("source: a.onnx\ntarget: a.onnx\ndata: x.npy\nsamples: 4\n")
    return folder


LONG: dict[str, tuple[str, ...]] = {
    "check": ("check", "a.onnx", "b.onnx", "--data", "x.npy"),
    "localize": ("localize", "a.onnx", "b.onnx", "--data", "x.npy"),
    "repair": ("repair", "a.onnx", "b.onnx", "--data", "x.npy", "--save-patch", "made.patch", "--no-plan"),
    "patch apply": ("patch", "apply", "made.patch", "b.onnx", "-o", "patched.onnx"),
    "gate": ("gate", "--no-cache", "--jobs", "1"),
    "init": ("init", "a.onnx", "b.onnx", "-o", "other.yaml"),
    "inject": ("inject", "a.onnx", "--fault", "wb-bias", "-o", "faulty.onnx"),
    "stress": ("stress", "linear.onnx", "--trials", "2", "--ber", "1e-9", "--jobs", "1"),
    "harden": ("harden", "a.onnx", "-o", "hard.onnx", "--scheme", "guard"),
    "harden --explain": ("harden", "--explain", "hard.onnx"),
    "harden --verify": ("harden", "--verify", "a.onnx", "hard.onnx", "--samples", "4"),
    "harden --restore": ("harden", "--restore", "hard.onnx", "-o", "soft.onnx"),
}


def test_every_long_command_has_one(place: Path, bar: Bar, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the table: some read what others wrote."""
    for command, arguments in LONG.items():
        bar = fresh(monkeypatch)
        with contextlib.chdir(place):
            done = CliRunner().invoke(cli, list(arguments))
        assert done.exit_code in (0, 1), done.output
        assert bar.started.is_set() and bar.stopped and bar.shown, command


@pytest.mark.parametrize("option", ["--no-progress", "-q"])
def test_nor_where_nobody_wants_one(place: Path, bar: Bar, option: str) -> None:
    with contextlib.chdir(place):
        for command in ("check", "harden"):
            CliRunner().invoke(cli, [*LONG[command], option])
    assert not bar.started.is_set()


@pytest.mark.parametrize("command", ["speed", "conversions", "faults", "storage", "hardening", "convert"])
def test_what_takes_minutes_has_one(
    command: str, bar: Bar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(*args: Any, **kwargs: Any) -> Any:
        assert bar.started.wait(30)
        raise KeyboardInterrupt

    for name in ("bench.speed.speed", "bench.conversions.conversions", "bench.faults.run.faults",
                 "bench.storage.run.storage", "bench.hardening.hardening", "convert.convert"):
        monkeypatch.setattr(f"fetafix.{name}", measured)
    model = small_models.cnn(tmp_path / "a.onnx")
    arguments = {"speed": [], "hardening": [str(model)], "convert": [str(model), str(tmp_path / "a.pt")]}
    command_line = [*(["bench"] if command != "convert" else []), command, *arguments.get(command, [str(tmp_path)])]
    done = CliRunner().invoke(cli, command_line)
    assert done.exit_code == 130 and bar.shown and bar.stopped, done.output
