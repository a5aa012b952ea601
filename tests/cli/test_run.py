"""Exit codes, and what goes to stdout and what to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fetafix import errors
from fetafix.cli import cli
from fetafix.cli.results import write_text
from fetafix.cli.run import execute, show
from fetafix.cli.settings import Request
from fetafix.report import Report
from tests.render.reports import REPORTS


def run(call: Callable[[Any], Report], monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    """Invoke a command of the real group that makes its report by `call`."""
    import fetafix.cli.check as module

    @click.command()
    @module.options.output
    def check(**given: Any) -> None:
        execute("check", Request("digits.onnx", "b.pt", {"seed": 5}), given, call)

    monkeypatch.setattr(module, "check", check)
    return CliRunner().invoke(cli, ["check", *args])


def fails(error: BaseException) -> Callable[[Any], Report]:
    def call(_: Any) -> Report:
        raise error

    return call


@pytest.mark.parametrize(("name", "code"), [
    ("check_equivalent", 0), ("check_divergent", 1), ("localize", 1), ("repair", 0), ("undecided", 3)])
def test_the_report_decides(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(lambda _: REPORTS[name], monkeypatch)
    assert done.exit_code == code and done.stdout.startswith("fetafix ") and "\x1b" not in done.stdout


@pytest.mark.parametrize("name", REPORTS)
def test_json_stands_alone_on_stdout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(lambda _: REPORTS[name], monkeypatch, "--json", "-")
    assert json.loads(done.stdout)["verdict"] == REPORTS[name].verdict.value and done.stderr == ""


def test_json_in_a_file_beside_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    done = run(lambda _: REPORTS["localize"], monkeypatch, "--json", str(path), "-q")
    assert json.loads(path.read_text())["command"] == "localize"
    assert done.stdout == "fetafix localize: DIVERGENT, fails the labels gate\n"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(("error", "code"), [
    (errors.InputDataError("no images in /data"), 2), (errors.ConfigError("x"), 2), (errors.UsageError("x"), 2),
    (errors.OutputError("x"), 2), (errors.EditError("x"), 1), (RuntimeError("surprise"), 3)])
def test_errors_have_their_codes(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(fails(error), monkeypatch)
    assert done.exit_code == code and done.stdout == ""
    assert str(error) in done.stderr and "Traceback" not in done.stderr


def test_verbose_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "-v shows where" in run(fails(RuntimeError("surprise")), monkeypatch).stderr
    done = run(fails(RuntimeError("surprise")), monkeypatch, "-v")
    assert "Traceback" in done.stderr and "test_run.py" in done.stderr


@pytest.mark.parametrize("kind", [errors.UnreadableModel, errors.UntrustedModel, errors.RuntimeCrash, errors.LiftError])
def test_a_model_that_fails_makes_an_undecided_report(
    kind: type[errors.ModelError], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(fails(kind("b.pt: the file is empty")), monkeypatch, "--json", "-")
    report = json.loads(done.stdout)
    assert done.exit_code == 3 and "b.pt: the file is empty" in done.stderr
    assert (report["verdict"], report["reason"], report["seed"]) == ("undecided", "b.pt: the file is empty", 5)
    assert report["source"]["path"] == "digits.onnx"


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = run(fails(KeyboardInterrupt()), monkeypatch, "--json", str(tmp_path / "r.json"))
    assert done.exit_code == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["missing/r.json", "."])
def test_an_unwritable_report_is_said_before_the_work(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(fails(AssertionError("must not be called")), monkeypatch, "--json", str(tmp_path / place))
    assert done.exit_code == 2 and "cannot be written" in done.stderr


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udcff")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_colour_only_on_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    show(REPORTS["localize"], {})
    assert "\x1b" not in capsys.readouterr().out
