"""`fetafix schema`: JSON Schemas of fetafix.yaml and of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("kind", type=click.Choice(["config", "report", "gate"]), default="config")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to FILE instead.")
def schema(kind: Any, output: str | None) -> None:
    """Print the JSON Schema of fetafix.yaml, of a report (--json), or of a gate's report.

    An editor that knows it completes keys of fetafix.yaml and marks mistakes.
    """
    from fetafix.schemas import text

    if output is None:
        click.echo(text(kind), nl=False)
        return
    from fetafix.cli.results import write_text
    from fetafix.outputs import writable

    writable(output)
    write_text(Path(output), text(kind))
