"""Where a report goes beside the terminal: files for CI systems and people, and GitHub's annotations and summary."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix.errors import OutputError, UsageError
from fetafix.files import replacing

if TYPE_CHECKING:
    from fetafix.gate.record import GateReport
    from fetafix.report import Report

# An option's parameter → what the file is called in messages; `fetafix.render.<parameter>` makes it.
FILES = {"html": "HTML report", "junit": "JUnit report", "sarif": "SARIF report", "markdown": "Markdown report"}
_WORKSPACES = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")


def places(given: Mapping[str, Any]) -> dict[str, str | None]:
    """What each file is called → where it goes, to be checked before the work."""
    path = given.get("json_path")
    return {"report": None if path == "-" else path, **{role: given.get(key) for key, role in FILES.items()}}


def write(report: Report | GateReport, given: Mapping[str, Any]) -> None:
    """Write the files that were asked for, and tell GitHub where that is wanted. Raises OutputError."""
    for key in FILES:
        if given.get(key) is not None:
            renderer = importlib.import_module(f"fetafix.render.{key}")
            write_text(Path(given[key]), renderer.render(report, **_extra(key, report)))
    wanted = given.get("annotations")
    if os.environ.get("GITHUB_ACTIONS") == "true" if wanted is None else wanted:
        _tell_github(report)


def _extra(key: str, report: Report | GateReport) -> dict[str, Any]:
    """What a renderer is told beside the report: where files lie, or what the journal says."""
    if key == "sarif":
        return {"locate": in_workspace}
    path = getattr(report, "journal", None)
    if key != "html" or not path or not Path(path).is_file():
        return {}
    from fetafix import journal

    try:
        return {"journal": list(journal.read(path))}
    except UsageError as error:  # a file that was there before and is no journal throughout
        click.echo(f"fetafix: the page does not show the journal: {error}", err=True)
        return {}


def write_text(path: Path, content: str) -> None:
    """Write a file whole or not at all. Raises OutputError."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(content, "utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def in_workspace(path: str) -> str:
    """A model's path as a CI system knows it: relative to the workspace, or the current folder, where it lies there."""
    root = Path(next((os.environ[name] for name in _WORKSPACES if os.environ.get(name)), "") or Path.cwd())
    if not path or not (whole := Path(os.path.abspath(path))).is_relative_to(root):
        return path
    return whole.relative_to(root).as_posix()


def _tell_github(report: Report | GateReport) -> None:
    """Annotations on stderr, which the runner reads like stdout; the summary behind what the step has said already."""
    from fetafix.render import annotations, markdown

    click.echo(annotations.render(report, in_workspace), nl=False, err=True)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "ab") as file:
            left = markdown.LIMIT - file.tell()
            if left > markdown.LEAST:
                file.write(b"\n" * bool(file.tell()) + markdown.render(report, left).encode())
    except OSError as error:
        click.echo(f"fetafix: the job's summary {path} cannot be written: {error.strerror}", err=True)
