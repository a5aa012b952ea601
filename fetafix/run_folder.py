"""A run folder: what `repair --save-run DIR` keeps, and what `fetafix review DIR` reads.

    report.json      the report, with its exhibits
    plan.json        what is proposed, to be decided entry by entry (arrays beside it in plan.arrays.zip)
    journal.jsonl    everything that was tried, and later every decision

Models and data stay where they are; the plan knows the folder that relative paths start from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from fetafix import plan as plans
from fetafix import planning
from fetafix.edit_data import ArrayStore
from fetafix.errors import OutputError, UsageError
from fetafix.files import replacing
from fetafix.options import Options, RepairOptions
from fetafix.outputs import keep_apart
from fetafix.report import Report, from_json, to_json

REPORT, PLAN, JOURNAL = "report.json", "plan.json", "journal.jsonl"


def prepared(
    source: str | Path, target: str | Path, options: Options, wanted: RepairOptions
) -> tuple[Options, RepairOptions]:
    """The options of a run that is kept in `wanted.save_run`; as they are where none is to be kept.

    The folder is made where there is none; a run kept in it before gives way, unless somebody decided about it. Raises
    UsageError where the options say twice where plan or journal go, OutputError where the folder cannot be used.
    """
    if wanted.save_run is None:
        return options, wanted
    doubled = [n for n in ("plan", "save_plan", "journal") if getattr(wanted, n) is not None]
    if doubled:
        raise UsageError(f"save_run keeps plan and journal in its folder; leave out {doubled[0]}")
    folder = Path(wanted.save_run)
    keep_apart({"run": folder, "report": folder / REPORT}, {"source": source, "target": target, "data": options.data})
    _vacate(folder)
    kept = replace(wanted, save_plan=folder / PLAN, journal=folder / JOURNAL, offer_plan=None, offer_journal=None)
    return replace(options, exhibits=True), kept


def keep(report: Report, options: Options, wanted: RepairOptions) -> Report:
    """Write the report of a run to its folder, and a plan without entries where nothing was proposed.

    The report comes back with a note that says so.
    """
    assert wanted.save_run is not None
    folder = Path(wanted.save_run)
    if not (folder / PLAN).exists():
        plans.save(planning.planned(report.source, report.target, options, wanted, []), folder / PLAN, ArrayStore())
    path = folder / REPORT
    try:
        with replacing(path) as temporary:
            temporary.write_text(to_json(report), "utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    note = f"run kept in {folder}: read it and decide with fetafix review {folder}"
    return msgspec.structs.replace(report, notes=[*report.notes, note])


def _vacate(folder: Path) -> None:
    """Make room for a run. Raises OutputError where something else lies in its place, or a decided plan."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the run cannot be kept in {folder}: {error.strerror}") from error
    plan, report = folder / PLAN, folder / REPORT
    if plan.exists():
        plans.refuse_to_erase(plan, "--save-run")
    if report.exists() and not _is_report(report):
        raise OutputError(f"{report} is no report of fetafix and is kept; give another --save-run")
    for path in (plan, plans.arrays_of(plan), report):
        path.unlink(missing_ok=True)


def _is_report(path: Path) -> bool:
    try:
        from_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
