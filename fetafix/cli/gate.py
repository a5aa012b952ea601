"""`fetafix gate`: every pair of a configuration, one summary, one exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix.cli import complete, options, terminal
from fetafix.cli.settings import FILE

if TYPE_CHECKING:
    from fetafix.config import Config
    from fetafix.gate.record import GateReport


@click.command()
@click.option("-c", "--config", "config", type=click.Path(), metavar="FILE",
              help="The configuration (default: fetafix.yaml).")
@click.option("--pair", "pairs", multiple=True, metavar="NAME", shell_complete=complete.pairs,
              help="Only this pair; may be given several times.")
@options.parallel
@click.option("--threads", type=click.IntRange(min=0), metavar="N",
              help="Threads of each runtime; 0 lets it choose (default: the processors shared among the pairs).")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="After so long a pair is ended, and undecided (default: never).")
@click.option("--cache", type=click.Path(file_okay=False), metavar="DIR",
              help="Where runs of sources are remembered (default: FETAFIX_CACHE, or the user's folder for caches).")
@click.option("--no-cache", is_flag=True, help="Run every source, and remember nothing.")
@options.files
@options.output
def gate(**given: Any) -> None:
    """Check every pair of a configuration; one summary, one exit code.

    A pair that fails its gate is localized. Where the configuration accepts each of its findings, and none of that has
    run out, it counts as accepted. An unchanged source on unchanged samples is not run again. Exit codes: 0 every pair
    passes or is accepted; 1 one fails; 2 usage; 3 none fails, one is undecided.
    """
    from fetafix import config
    from fetafix.cli import results
    from fetafix.cli.progress import Progress
    from fetafix.gate import run
    from fetafix.run_store import default_folder, prepared

    if given["jobs"] and given["cluster"]:
        raise click.UsageError("a cluster's workers decide how much runs at a time: --jobs or --cluster, not both")
    path = given["config"] or FILE
    if not given["config"] and not Path(path).is_file():
        raise click.UsageError(f"there is no {FILE} here: name a configuration with -c, or write one with fetafix init")
    loaded = config.load(path)
    given["config"] = path
    check_results(given, loaded)
    folder = None if given["no_cache"] else prepared(given["cache"] or default_folder())
    with Progress(not (given["no_progress"] or given["quiet"])) as progress:
        report = run.gate(loaded, run.GateOptions(
            pairs=given["pairs"], jobs=given["jobs"], cluster=given["cluster"], threads=given["threads"],
            limit=given["timeout"], cache=folder, exhibits=bool(given["html"]), progress=progress))
    show(report, given)
    results.write(report, given)
    click.get_current_context().exit(report.exit_code)


def check_results(given: Mapping[str, Any], loaded: Config) -> None:
    """Fail before the work where a result cannot be written, or would be over what is read. Raises OutputError."""
    from fetafix.cli import results
    from fetafix.outputs import keep_apart, writable

    made = results.places(given)
    for pair in loaded.pairs:
        source, target = pair.models()
        read = {"configuration": given["config"], "source": source.model, "target": target.model, "data": pair.data}
        keep_apart(made, read)
    for path in filter(None, made.values()):
        writable(path)


def show(report: GateReport, given: Mapping[str, Any]) -> None:
    """The report where the user wants it: JSON alone on stdout, or text on stdout and JSON in a file."""
    from fetafix.cli.results import write_text
    from fetafix.gate.record import to_json

    target = given["json_path"]
    if target == "-":
        click.echo(to_json(report))
        return
    if target is not None:
        write_text(Path(target), to_json(report) + "\n")
    from fetafix.render import gate as render

    terminal.show(lambda colour: render.render(report, given.get("verbose", False), colour, given.get("quiet", False)))
