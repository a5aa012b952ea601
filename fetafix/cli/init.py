"""`fetafix init`: a first fetafix.yaml for two models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fetafix.cli import options
from fetafix.errors import OutputError


@click.command()
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@click.option("-o", "--output", type=click.Path(), default="fetafix.yaml", show_default=True, metavar="FILE",
              help="The configuration to write; one that exists is never replaced.")
@click.option("--data", type=click.Path(), metavar="PATH",
              help="Folder of images, .npy, .npz, or module:function (with --trust), to be written into it.")
@click.option("--trust", is_flag=True, help="Run code from the model files. Only for files that you trust.")
@click.option("--source-arch", metavar="MODULE:FACTORY", help="What builds the module of a bare state dict.")
@click.option("--target-arch", metavar="MODULE:FACTORY", help="The same for the target.")
@click.option("-v", "--verbose", is_flag=True, is_eager=True, callback=options.remember, help="Tracebacks of errors.")
def init(source: str, target: str, output: str, **given: Any) -> None:
    """Write a commented fetafix.yaml for SOURCE and what a converter made of it, TARGET.

    Both are opened and run on a few samples: the file tells what they are, what must agree by all that shows, and
    every other key, switched off. `fetafix gate` then checks the pair.
    """
    from fetafix.outputs import writable

    place = Path(output)
    if os.path.lexists(place):
        raise OutputError(f"{place} is there already, and is not replaced: name another file with -o")
    writable(place)
    from fetafix import starter
    from fetafix.cli.progress import Progress
    from fetafix.cli.results import write_text
    from fetafix.options import Options
    from fetafix.schemas import FILE

    with Progress(True, "looking at both models") as progress:
        asked = Options(data=given["data"], trust=given["trust"], source_arch=given["source_arch"],
                        target_arch=given["target_arch"], progress=progress)
        found = starter.look(source, target, asked)
    write_text(place, starter.text(found, asked, place, _seen_from(place, FILE)))
    click.echo(f"{place} was written: {found.source.format} to {found.target.format}, gate {found.gate}")
    with_file = "" if output == "fetafix.yaml" else f" -c {place}"
    click.echo(f"Read it, then run: fetafix gate{with_file}")


def _seen_from(place: Path, schema: Path) -> str:
    """How an editor finds the schema: relative to the file where both lie in one project, else by its whole path."""
    folder = place.absolute().parent
    return schema.relative_to(folder).as_posix() if schema.is_relative_to(folder) else schema.as_posix()
