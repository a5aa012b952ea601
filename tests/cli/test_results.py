"""The files that a report is written to, and what GitHub is told: asked for, checked before the work, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest
from click.testing import CliRunner, Result

from fetafix.cli import cli, results
from fetafix.cli.run import execute
from fetafix.cli.settings import Request
from fetafix.convert.report import ConversionReport
from fetafix.errors import OutputError
from fetafix.outputs import writable
from fetafix.report import Output, Report, Verdict
from tests.render.gates import GATES
from tests.render.reports import REPORTS, SOURCE


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


def run(report: Report | Callable[[], Report], monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    """Invoke a command of the real group whose work is done already."""
    import fetafix.cli.check as module

    @click.command()
    @module.options.files
    @module.options.output
    def check(**given: Any) -> None:
        execute("check", Request("digits.onnx", "b.pt", {}), given, lambda _: report if isinstance(report, Report)
                else report())

    monkeypatch.setattr(module, "check", check)
    return CliRunner().invoke(cli, ["check", *args])


def test_all_files_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {o: tmp_path / f"made.{o}" for o in ("json", "junit", "sarif", "markdown")}
    done = run(REPORTS["localize"], monkeypatch, *(a for o, p in paths.items() for a in (f"--{o}", str(p))))
    assert done.exit_code == 1 and done.stderr == "" and done.stdout.startswith("fetafix localize: DIVERGENT")
    assert ET.parse(paths["junit"]).getroot().get("failures") == "1"
    assert len(json.loads(paths["sarif"].read_text())["runs"][0]["results"]) == 2
    assert paths["markdown"].read_text("utf-8").startswith("## ❌ fetafix localize: divergent")
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())


def never() -> Report:
    raise AssertionError("must not be called")


@pytest.mark.parametrize("option", ["--junit", "--sarif", "--markdown"])
def test_what_cannot_be_written_is_said_before_the_work(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path, tmp_path / "missing" / "x"):
        done = run(never, monkeypatch, option, str(place))
        assert done.exit_code == 2 and "cannot be written" in done.stderr


def test_no_result_replaces_another_or_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(never, monkeypatch, "--junit", "same", "--sarif", "./same")
    assert done.exit_code == 2 and "that is the JUnit report" in done.stderr
    done = run(never, monkeypatch, "--markdown", "digits.onnx")
    assert done.exit_code == 2 and "that is the source" in done.stderr


def test_devices_are_not_replaced() -> None:
    with pytest.raises(OutputError, match="no plain file"):
        writable("/dev/null")


@pytest.mark.parametrize("command", ["check", "localize", "repair", "convert", "gate"])
def test_every_command_with_a_report_has_them(command: str) -> None:
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None
    assert {"--junit", "--sarif", "--markdown", "--annotations"} <= {o for p in found.params for o in p.opts}


def test_annotations_by_default_only_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(REPORTS["localize"], monkeypatch).stderr == ""
    assert run(REPORTS["localize"], monkeypatch, "--annotations").stderr.count("::error ") == 2
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = run(REPORTS["localize"], monkeypatch, "--json", "-")
    assert done.stderr.count("::error ") == 2 and json.loads(done.stdout)
    assert run(REPORTS["localize"], monkeypatch, "--no-annotations").stderr == ""


def test_the_summary_goes_behind_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    run(REPORTS["localize"], monkeypatch)
    assert path.read_text("utf-8").startswith("before\n\n## ❌ fetafix localize")
    path.write_text("x" * 999_000)
    assert run(REPORTS["localize"], monkeypatch).exit_code == 1
    assert path.stat().st_size == 999_000  # full


def test_a_summary_that_cannot_be_written_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    done = run(REPORTS["check_equivalent"], monkeypatch, "--annotations")
    assert done.exit_code == 0 and "summary" in done.stderr


def test_models_are_named_as_the_workspace_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert results.in_workspace("b.onnx") == "b.onnx"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert results.in_workspace("b.onnx") == results.in_workspace(str(tmp_path / "sub" / "b.onnx")) == "sub/b.onnx"
    assert results.in_workspace("/elsewhere/b.onnx") == "/elsewhere/b.onnx" and results.in_workspace("") == ""


def test_a_gate_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    results.write(GATES["gate"], {"junit": str(path)})
    assert ET.parse(path).getroot().get("tests") == "4"


def test_a_conversion_is_a_report_on_what_it_made() -> None:
    made = ConversionReport(verdict=Verdict.DIVERGENT, reason="no route passes", source=SOURCE, format="TFLite")
    report = made.as_report("out.tflite")
    assert (report.command, report.target.path, report.exit_code) == ("convert", "out.tflite", made.exit_code)
    kept = ConversionReport(verdict=Verdict.EQUIVALENT, reason="passes", source=SOURCE, format="TFLite",
                            check=REPORTS["check_equivalent"], output=Output(path="out.tflite", sha256="ab"))
    report = kept.as_report("out.tflite")
    assert report.exit_code == 0 and report.agreement == REPORTS["check_equivalent"].agreement
    assert report.target.path == "out.tflite"  # not where a converter put it meanwhile
