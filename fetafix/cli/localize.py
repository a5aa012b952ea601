"""`fetafix localize`: which layers introduce the difference?"""

from __future__ import annotations

from typing import Any

import click

from fetafix.cli import options
from fetafix.cli.run import execute


@click.command()
@options.models
@click.option("--repro", type=click.Path(), metavar="DIR",
              help="Write a minimal reproduction of each finding to DIR, which must be empty or new.")
@options.inputs
@options.judging
@options.searching
@options.files
@options.output
def localize(**given: Any) -> None:
    """Say which layers of the target introduce the difference, and why.

    All faults are looked for at once, each at the layer that introduces it, named in both models' own terms; layers
    that only pass an error on are not blamed. Exit codes as for check.
    """
    from fetafix.cli.settings import request

    wanted = request(given)

    def call(progress: Any) -> Any:
        from fetafix import api

        given_options = api.Options(**wanted.options, progress=progress)
        return api.localize(wanted.source, wanted.target, given_options, given["repro"])

    execute("localize", wanted, given, call)
