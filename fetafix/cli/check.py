"""`fetafix check`: do two models give the same answers?"""

from __future__ import annotations

from typing import Any

import click

from fetafix.cli import options
from fetafix.cli.run import execute


@click.command()
@options.models
@options.inputs
@options.judging
@options.searching
@options.files
@options.output
def check(**given: Any) -> None:
    """Say whether two models give the same answers.

    SOURCE is the original and TARGET what a converter made of it; their formats are recognised by content. Exit codes:
    0 equivalent, or drifting but passing the gate; 1 they disagree; 2 usage; 3 undecided.
    """
    from fetafix.cli.settings import request

    wanted = request(given)

    def call(progress: Any) -> Any:
        from fetafix import api

        return api.check(wanted.source, wanted.target, api.Options(**wanted.options, progress=progress))

    execute("check", wanted, given, call)
