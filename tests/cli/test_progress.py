"""The progress bar shows on terminals, for long work, and nowhere else."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from fetafix.cli import progress as module
from fetafix.cli.progress import Progress


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
        progress("aligning")
    return stream.getvalue()


def test_long_work_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = drawn(monkeypatch, Terminal(), 0.0)
    assert "running both models" in shown and "3/3" in shown and "aligning" in shown


@pytest.mark.parametrize(("stream", "patience", "wanted"), [
    (io.StringIO(), 0.0, True), (Terminal(), 1e9, True), (Terminal(), 0.0, False)])
def test_silence(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, wanted: bool) -> None:
    assert drawn(monkeypatch, stream, patience, wanted) == ""


def test_rich_is_imported_only_to_be_shown() -> None:
    code = ("import sys\nfrom fetafix.cli.progress import Progress\nwith Progress(True) as p: p('x', 1, 2)\n"
            "assert 'rich' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)
