"""`fetafix inject`: a copy of a model with a seeded fault in it."""

from __future__ import annotations

from typing import Any

import click

from fetafix.cli import complete, options


@click.command()
@click.argument("model", type=click.Path())
@click.option("--fault", required=True, metavar="CODE", shell_complete=complete.codes,
              help="Which fault; `fetafix faults` lists them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S",
              help="What chooses the place and values.")
@click.option("-o", "--output", "out", required=True, type=click.Path(), metavar="FILE",
              help="The new file; of a SavedModel the new folder.")
@click.option("--trust", is_flag=True, help="Run code from the model file. Only for files that you trust.")
@click.option("--arch", metavar="MODULE:FACTORY", help="What builds the module that a bare state dict belongs to.")
@click.option("--signature", metavar="NAME",
              help="Which signature of a SavedModel or a TFLite file (default: the only one).")
@click.option("-v", "--verbose", is_flag=True, is_eager=True, callback=options.remember, help="Tracebacks of errors.")
def inject(
    model: str, fault: str, seed: int, out: str, trust: bool, arch: str | None, signature: str | None, **_: Any
) -> None:
    """Put the fault CODE into a copy of MODEL, written to a new file in the model's own format.

    The same seed makes the same fault. A fault that would change no answer is refused (exit 1).
    """
    from fetafix.cli.progress import Progress
    from fetafix.formats.base import OpenOptions
    from fetafix.inject import inject as put
    from fetafix.render.style import number

    with Progress(True, f"putting {fault} into a copy"):
        done = put(model, fault, seed, out, OpenOptions(trust=trust, arch=arch, signature=signature))
    click.echo(f"{done.path}: {done.code}, seed {done.seed}")
    for change in done.changes:
        click.echo(f"  {change}")
    effect = "its interface differs" if done.error is None else f"relative error of its outputs {number(done.error)}"
    click.echo(f"  {effect}")
