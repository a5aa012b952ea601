"""`fetafix repair`: mend the target, prove it, and write it where that is wanted."""

from __future__ import annotations

from typing import Any

import click

from fetafix.cli import options
from fetafix.cli.run import execute

_REPAIR = ("output", "apply", "bake", "plan", "save_plan", "approved_by", "journal")


@click.command()
@options.models
@click.option("-o", "--output", type=click.Path(), metavar="FILE",
              help="The repaired model (default: <target>.repaired beside it, with its suffix).")
@click.option("--apply", is_flag=True, help="Write the repaired model; without, only say what would be done.")
@click.option("--plan", type=click.Path(), metavar="FILE", help="Apply exactly the approved entries of this plan.")
@click.option("--save-plan", type=click.Path(), metavar="FILE", help="Write what would be done as a plan to approve.")
@click.option("--approved-by", metavar="NAME", help="Who approved the repairs; recorded in the journal.")
@click.option("--journal", type=click.Path(), metavar="FILE", help="Append everything tried to FILE (JSON lines).")
@click.option("--bake", is_flag=True, help="Build repairs of the preprocessing into the target's graph.")
@options.inputs
@options.judging
@options.output
def repair(**given: Any) -> None:
    """Repair the target and prove it on samples that the repair was not chosen on.

    The smallest edits that restore agreement are applied to a copy, in the target's own format; SOURCE and TARGET are
    never changed, and without --apply nothing is written at all. Without models, those of fetafix.yaml are taken.
    Exit codes: 0 fully repaired, or nothing to repair; 1 the pair still disagrees; 2 usage; 3 undecided.
    """
    from fetafix.cli.settings import request

    if given["plan"] and given["save_plan"]:
        raise click.UsageError("--plan applies a plan and --save-plan makes one; give one of them")
    if given["plan"] and not given["apply"]:
        raise click.UsageError("--plan needs --apply: a plan is what is to be applied")
    if given["output"] and not given["apply"]:
        raise click.UsageError("-o needs --apply: without it nothing is written")
    wanted = request(given)
    chosen = {k: given[k] for k in _REPAIR if given[k]}

    def call(progress: Any) -> Any:
        from fetafix import api

        return api.repair(
            wanted.source, wanted.target, api.Options(**wanted.options, progress=progress), api.RepairOptions(**chosen)
        )

    execute("repair", wanted, given, call)
