"""`fetafix repair`: mend the target, prove it, and write it where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fetafix.cli import options
from fetafix.cli.run import execute
from fetafix.outputs import default_output

_REPAIR = (
    "output", "apply", "bake", "plan", "save_plan", "save_patch", "approved_by", "journal", "save_run",
    "offer_plan", "offer_journal",
)  # fmt: skip


@click.command()
@options.models
@click.option("-o", "--output", type=click.Path(), metavar="FILE",
              help="The repaired model (default: <target>.repaired beside it, with its suffix).")
@click.option("--apply", is_flag=True, help="Write the repaired model; without, only say what would be done.")
@click.option("--plan", type=click.Path(), metavar="FILE", help="Apply exactly the approved entries of this plan.")
@click.option("--save-plan", type=click.Path(), metavar="FILE",
              help="Where the plan goes (default: <target's stem>.plan.json in the current folder).")
@click.option("--save-patch", type=click.Path(), metavar="FILE",
              help="Write what is kept as a patch: `fetafix patch apply` replays it onto another conversion.")
@click.option("--save-run", type=click.Path(), metavar="DIR",
              help="Keep report, plan and journal in DIR, where `fetafix review DIR` reads them.")
@click.option("--no-plan", is_flag=True, help="A dry run writes no plan.")
@click.option("--approved-by", metavar="NAME", help="Who approved the repairs; recorded in the journal.")
@click.option("--journal", type=click.Path(), metavar="FILE",
              help="Append everything tried to FILE, as JSON lines (default with --apply: <output>.journal.jsonl).")
@click.option("--bake", is_flag=True, help="Build repairs of the preprocessing into the target's graph.")
@options.inputs
@options.judging
@options.searching
@options.files
@options.output
def repair(**given: Any) -> None:
    """Repair the target and prove it on samples that the repair was not chosen on.

    The smallest edits that restore agreement are applied to a copy, in the target's own format; SOURCE and TARGET are
    never changed. Without --apply no model is written, only a plan of what would be done, to be approved entry by entry
    and applied with --apply --plan. Without models, those of fetafix.yaml are taken.
    Exit codes: 0 fully repaired, or nothing to repair; 1 the pair still disagrees; 2 usage; 3 undecided.
    """
    from fetafix.cli.settings import request

    if given["plan"] and given["save_plan"]:
        raise click.UsageError("--plan applies a plan and --save-plan makes one; give one of them")
    if given["plan"] and not given["apply"]:
        raise click.UsageError("--plan needs --apply: a plan is what is to be applied")
    if given["no_plan"] and given["save_plan"]:
        raise click.UsageError("--save-plan writes a plan and --no-plan none; give one of them")
    doubled = [k for k in ("plan", "save_plan", "no_plan", "journal") if given[k]] if given["save_run"] else []
    if doubled:
        raise click.UsageError(f"--save-run keeps plan and journal in its folder; leave out --{doubled[0]}"
                               .replace("_", "-"))
    if given["output"] and not given["apply"]:
        raise click.UsageError("-o needs --apply: without it nothing is written")
    wanted = request(given)
    chosen = {k: v for k, v in {**given, **_records(wanted.target, given)}.items() if k in _REPAIR and v}

    def call(progress: Any) -> Any:
        from fetafix import api

        return api.repair(
            wanted.source, wanted.target, api.Options(**wanted.options, progress=progress), api.RepairOptions(**chosen)
        )

    execute("repair", wanted, given, call)


def _records(target: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Where plan and journal go when nobody says so."""
    if given["save_run"]:
        return {}
    if given["apply"]:
        out = Path(given["output"]) if given["output"] else default_output(target)
        return {"offer_journal": None if given["journal"] else out.with_name(f"{out.name}.journal.jsonl")}
    wanted = not (given["no_plan"] or given["save_plan"])
    return {"offer_plan": Path(f"{Path(target).stem}.plan.json") if wanted else None}
