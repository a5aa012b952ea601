"""What is reviewed: a run folder or a plan file, and what belongs to it.

The plan says which models it was made for, by path and SHA-256, and what the samples were. A relative path starts from
the folder that the plan was made in; where nothing is there any more, beside the plan and in the current folder are
tried. A model counts only if its content is the plan's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fetafix import plan as plans
from fetafix.errors import FetafixError, OutputError, UsageError
from fetafix.formats import recognise, sha256
from fetafix.inputs.sources import names_loader
from fetafix.outputs import default_output, keep_apart, writable
from fetafix.report import Report, from_json
from fetafix.run_folder import JOURNAL, PLAN, REPORT

_HOW = "make one with `fetafix repair SRC DST --save-run DIR`, or give the plan that a dry run of it wrote"


@dataclass(frozen=True, slots=True)
class Run:
    """A plan and what belongs to it. plan, journal: files. report: None where there is none.

    source, target, data: where they are now; data None for synthetic samples. missing: why the plan can be read and
    decided, but not applied here, "" where it can. output: where the repaired model goes.
    """

    plan: Path
    journal: Path
    report: Report | None
    source: Path | None
    target: Path | None
    data: str | None
    output: Path | None
    missing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """What a user says about where things are; None where nothing is said."""

    source: str | Path | None = None
    target: str | Path | None = None
    data: str | Path | None = None
    output: str | Path | None = None
    journal: str | Path | None = None


def find(run: str | Path, places: Places | None = None) -> Run:
    """The run in a folder or of a plan file. Raises UsageError where it is neither, OutputError for a wrong output."""
    places = places or Places()
    path = plan_of(Path(run))
    plan = plans.read(path)
    models, wrong = _models(plan, path, places)
    data, lacking = _data(plan, path, places)
    output, closed = _output(models[1], places)
    journal = Path(places.journal) if places.journal else _journal(path)
    missing = " ".join(filter(None, (wrong, lacking, closed)))
    made = Run(path, journal, _report(plan, path), *models, data, output, missing)
    read = {"source": made.source, "target": made.target, "data": data, "plan": path, "report": path.with_name(REPORT)}
    keep_apart({"output": output, "journal": journal}, read)
    return made


def plan_of(run: Path) -> Path:
    """The plan file of what a user calls a run. Raises UsageError that says what was expected, and how to make it."""
    if run.is_dir():
        if (run / PLAN).is_file():
            return run / PLAN
        raise UsageError(f"{run} is no run folder: expected a {PLAN} in it, found none; {_HOW}")
    if not run.exists():
        raise UsageError(f"there is no {run}: expected a run folder or a plan file; {_HOW}")
    if run.name == REPORT or _is_report(run):
        raise UsageError(f"{run} is a report, which tells what was found but not what can be applied; {_HOW}")
    try:
        plans.read(run)
    except UsageError as error:
        raise UsageError(f"{error}; expected a run folder or a plan file: {_HOW}") from error
    return run


def _is_report(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"verdict", "schema_version"} <= found.keys()


def _report(plan: plans.Plan, path: Path) -> Report | None:
    """The report beside a plan, where it is of the same run: the same models, and every entry of the plan is in it."""
    stem = path.name.removesuffix(".json").removesuffix(".plan")
    for file in (path.with_name(REPORT), path.with_name(f"{stem}.report.json"), path.with_name(f"{stem}.json")):
        try:
            report = from_json(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        same = (report.source.sha256, report.target.sha256) == (plan.source.sha256, plan.target.sha256)
        if same and {e.id for e in plan.entries} <= {r.id for r in report.repairs}:
            return report
    return None


def _models(plan: plans.Plan, path: Path, places: Places) -> tuple[tuple[Path | None, Path | None], str]:
    """Source and target, and why one of them is missing."""
    found: list[Path | None] = []
    why = []
    for role, file, said in (("source", plan.source, places.source), ("target", plan.target, places.target)):
        candidates = [Path(said)] if said else list(_places(file.path, plan, path))
        model = next((p for p in candidates if _is(p, file.sha256)), None)
        found.append(model)
        if model is None:
            other = next((p for p in candidates if _there(p)), None)
            what = f"{other} is another file" if other else f"there is no {candidates[0]}"
            why.append(f"The {role} that the plan was made for (SHA-256 {file.sha256[:12]}…) is not here: {what}. Say "
                       f"where it is with --{role}.")
    if said := next((p for p, m in zip((places.source, places.target), found, strict=True) if p and m is None), None):
        raise UsageError(f"{said} is not the model that the plan was made for. {' '.join(why)}")
    return (found[0], found[1]), " ".join(why)


def _places(name: str, plan: plans.Plan, path: Path) -> Iterator[Path]:
    """Where something that the plan names may be, likeliest first."""
    yield Path(plan.folder) / name
    yield path.parent / name
    yield path.parent / Path(name).name
    yield Path(name)


def _is(path: Path, digest: str) -> bool:
    """Whether a path is the model of this digest. A folder that is no model is not read through."""
    try:
        if path.is_dir():
            recognise(path)
        return _there(path) and (not digest or sha256(path) == digest)
    except (FetafixError, OSError, ValueError):
        return False


def _there(path: Path) -> bool:
    """Whether there is a file or a folder; a pipe or a device is neither, and no name at all raises no error."""
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False


def _data(plan: plans.Plan, path: Path, places: Places) -> tuple[str | None, str]:
    """Where the samples are, and why they are missing."""
    told = plan.options.get("data")
    if places.data is not None:
        return str(places.data), ""
    if not isinstance(told, str):
        return None, ""
    found = next((p for p in _places(told, plan, path) if _there(p)), None)
    if found is not None:
        return str(found), ""
    if names_loader(told):
        return told, ""
    return None, f"The samples {told} that the plan was made with are not here. Say where they are with --data."


def _output(target: Path | None, places: Places) -> tuple[Path | None, str]:
    """Where the repaired model goes, and why it cannot go there. Raises OutputError where the user named that place."""
    if places.output is not None:
        writable(places.output)
        return Path(places.output), ""
    if target is None:
        return None, ""
    try:
        writable(made := default_output(target))
    except OutputError as error:
        return None, f"{error}. Say with -o where the repaired model goes."
    return made, ""


def _journal(plan: Path) -> Path:
    """The journal of a run folder, or the one beside a plan."""
    return plan.with_name(JOURNAL if plan.name == PLAN else f"{plan.name}.journal.jsonl")

