"""One run of a command that makes a report: progress, the call, rendering, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix import launch
from fetafix.cli import results, terminal
from fetafix.cli.progress import Progress
from fetafix.cli.results import write_text
from fetafix.errors import ModelError
from fetafix.outputs import keep_apart, writable

if TYPE_CHECKING:
    from fetafix.cli.settings import Request
    from fetafix.report import Report


def execute(
    command: str, request: Request, given: Mapping[str, Any], call: Callable[[Progress], Report]
) -> None:
    """Call, render, exit with the report's code. A model that cannot be opened or run makes an undecided report."""
    _check_results(request, given)
    wanted = not (given.get("no_progress") or given.get("quiet"))
    launch.ahead((request.source, request.target))  # they start while this process still imports
    try:
        with Progress(wanted) as progress:
            report = call(progress)
    except ModelError as error:
        report = _undecided(command, request, error)
        if given.get("verbose"):
            import traceback

            click.echo(traceback.format_exc().rstrip(), err=True)
        click.echo(f"fetafix: {error}", err=True)
    finally:
        launch.dismiss()
    show(report, given)
    results.write(report, given)
    click.get_current_context().exit(report.exit_code)


def show(report: Report, given: Mapping[str, Any]) -> None:
    """The report where the user wants it: JSON alone on stdout, or text on stdout and JSON in a file."""
    target = given.get("json_path")
    if target is not None:
        from fetafix.render import json

        if target == "-":
            click.echo(json.render(report), nl=False)
            return
        write_text(Path(target), json.render(report))
    from fetafix.render import text

    terminal.show(lambda colour: text.render(report, given.get("verbose", False), colour, given.get("quiet", False)))


def _check_results(request: Request, given: Mapping[str, Any]) -> None:
    """Fail before the work, not after it."""
    reports = results.places(given)
    kept = {"output": "output", "plan": "save_plan", "patch": "save_patch", "journal": "journal",
            "inputs to keep": "keep_worst"}  # fmt: skip
    made = {**reports, **{role: given.get(key) for role, key in kept.items()}}
    read = {"source": request.source, "target": request.target, "data": request.options.get("data")}
    keep_apart(made, {**read, "configuration": given.get("config"), "plan": given.get("plan")})
    for role in (*reports, "inputs to keep"):
        if path := made[role]:
            writable(path)


def _undecided(command: str, request: Request, error: ModelError) -> Report:
    from fetafix.report import ModelInfo, Report, Samples, Verdict

    source, target = (ModelInfo(path=str(p), format="") for p in (request.source, request.target))
    return Report(
        verdict=Verdict.UNDECIDED, reason=str(error), seed=int(request.options.get("seed") or 0), samples=Samples(),
        source=source, target=target, command=command,
    )
