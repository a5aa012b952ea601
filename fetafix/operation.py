"""`localize` and `repair` step by step, from an open session to the report.

judge → (equivalent? done) → lift and align → locate → [plan] → operate on copies → prove on held-out samples → write
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fetafix import offer, preparation, repair
from fetafix import plan as plans
from fetafix.api import report_on
from fetafix.edit_data import ArrayStore
from fetafix.errors import LiftError, OutputError
from fetafix.faults import catalogue
from fetafix.findings import rejected
from fetafix.formats import sha256
from fetafix.journal import Journal
from fetafix.judging import Judgement
from fetafix.localize import Located, locate
from fetafix.options import RepairOptions
from fetafix.outputs import default_output
from fetafix.repair import Group, Surgeon, Trial
from fetafix.report import Finding, Output, Report, Verdict
from fetafix.session import Session
from fetafix.workbench import Workbench

R = TypeVar("R", bound=msgspec.Struct)


def localized(session: Session) -> Report:
    """The report of `localize`."""
    before = session.judge("all", stop=True)
    report = _as(report_on(session, before), command="localize")
    if _settled(report, session):
        return report
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetafix-")))
        try:
            with session.timed("lift"):
                bench = stack.enter_context(Workbench(session, folder))
        except LiftError as error:
            return _as(report, notes=[*report.notes, str(error)])
        located = _located(session, bench, bake=False)
        return _as(
            report, findings=located.findings(bench, catalogue()), notes=[*report.notes, *_notes(bench, located)]
        )


def repaired(session: Session, wanted: RepairOptions) -> Report:
    """The report of `repair`; writes the repaired artifact, the plan and the journal where that is wanted."""
    out = Path(wanted.output) if wanted.output else default_output(session.paths[1])
    if wanted.plan:  # before the work: a plan that cannot be applied is noticed at once
        _approved(session, wanted.plan)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(wanted.journal))
        report = _as(report_on(session, session.judge("all")), command="repair")
        if journal.path is None and wanted.offer_journal and not _settled(report, session):
            journal = stack.enter_context(Journal(wanted.offer_journal))
        report = _as(report, journal=str(journal.path) if journal.path else None)
        _log(journal, "repair", source=session.source_info, target=session.target_info, options=_plain(session, wanted))
        _log(journal, "judged", which="all", verdict=str(report.verdict), agreement=report.agreement)
        if _settled(report, session) and not (wanted.plan and report.passed):
            _log(journal, "nothing to repair", reason=report.reason)
            return report
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetafix-")))
        try:
            with session.timed("lift"):
                bench = stack.enter_context(Workbench(session, folder))
        except LiftError as error:
            return _as(report, verdict=Verdict.UNDECIDED, reason=str(error), passed=False)
        return _operate(session, bench, wanted, report, journal, out, folder, stack)


def _settled(report: Report, session: Session) -> bool:
    """Whether there is nothing to look for: answers and interfaces agree, or the source has no answer to agree with."""
    sound = report.verdict is Verdict.EQUIVALENT and not session.bindings.extra
    return sound or report.verdict is Verdict.UNDECIDED


def _operate(
    session: Session,
    bench: Workbench,
    wanted: RepairOptions,
    report: Report,
    journal: Journal | None,
    out: Path,
    folder: Path,
    stack: ExitStack,
) -> Report:
    store = ArrayStore()
    located: Located | None = None
    if wanted.plan:
        groups, found = _planned(session, wanted, journal), list[Finding]()
    else:
        located = _located(session, bench, wanted.bake)
        groups = repair.groups_of(located, bench, catalogue(), store)
        found = located.findings(bench, catalogue())
        _log_located(journal, located, found)
    if wanted.save_plan and not wanted.plan:
        _save_plan(session, wanted, wanted.save_plan, groups, store)
    elif wanted.offer_plan and groups:
        report = _as(report, notes=[*report.notes, _offer_plan(session, wanted, wanted.offer_plan, groups, store)])
    search = session.judge("search")
    surgeon = stack.enter_context(Surgeon(session, bench.target_lift.path, folder, journal))
    with session.timed("operate"):
        trial = surgeon.operate(groups, search) if groups else Trial((), None, search)
    extra = rejected(located.steps, bench.names[1]) if located else []
    report = _as(
        report,
        findings=found,
        repairs=repair.records(trial, extra),
        notes=[*report.notes, *(_notes(bench, located) if located else [])],
    )
    if offer.unwritten(trial):
        note = offer.offer(session, bench.target_lift.path, trial, out, wanted.apply)
        _log(journal, "offered", note=note)
        report = _as(report, notes=[*report.notes, note])
    if trial.copy is None:
        _log(journal, "nothing kept", reason=_nothing(located))
        return _as(report, reason=f"{report.reason} {_nothing(located)}", passed=report.passed)
    return _prove(session, wanted, report, journal, surgeon, trial, out)


def _prove(
    session: Session,
    wanted: RepairOptions,
    report: Report,
    journal: Journal | None,
    surgeon: Surgeon,
    trial: Trial,
    out: Path,
) -> Report:
    """Judge the kept copy on the held-out samples, and write it where that is wanted and it is no step back."""
    kept = trial.kept
    assert trial.copy is not None
    first = session.judge("heldout")
    with session.timed("prove"):
        proof = surgeon.judge("heldout", trial.copy)
    _log(journal, "proof", which="heldout", before=first.agreement, after=proof.agreement)
    report = _as(report, agreement=first.agreement, after=proof.agreement, passed=proof.ruling.passed)
    if not repair.better(proof, first) and session.samplings.heldout:
        why = "on samples that the repair was not chosen on it is no better, so it is dropped"
        dropped = [_as(r, status="rejected", why=why) if r.status == "kept" else r for r in report.repairs]
        _log(journal, "rolled back", reason=why)
        return _as(
            report,
            repairs=dropped,
            after=None,
            passed=report.passed,
            reason=f"{report.reason} The repair was rolled back: {why}.",
        )
    verdict, reason = _ending(proof, trial, wanted)
    output = None
    if wanted.apply:
        written = surgeon.write(kept, out)
        output = Output(path=str(written.path), sha256=sha256(written.path))
        _log(journal, "written", output=output, entries=[g.entry.id for g in kept], approved_by=wanted.approved_by)
    changes = repair.preprocessing(kept)
    if changes:
        report = _as(report, notes=[*report.notes, _prepared(session, wanted, journal, out, changes)])
    return _as(report, verdict=verdict, reason=reason, output=output)


def _prepared(
    session: Session, wanted: RepairOptions, journal: Journal | None, out: Path, changes: Mapping[str, Any]
) -> str:
    """The note on how to prepare the repaired model's inputs; beside an applied repair a configuration says it too."""
    recipe = preparation.wanted(session, changes)
    note = f"the target's inputs have to be prepared otherwise: {preparation.option(recipe)}"
    if not wanted.apply:
        return note
    path = preparation.write(session, out, changes)
    _log(journal, "written", configuration=str(path))
    return f"{note}; {path} holds this configuration for fetafix -c"


def _ending(proof: Judgement, trial: Trial, wanted: RepairOptions) -> tuple[Verdict, str]:
    """The verdict after a repair that helped, and the sentence that says so."""
    where = "the repaired model" if wanted.apply else "the repaired model (dry run: --apply writes it)"
    count = len(trial.kept)
    made = f"{count} repair{'s' if count != 1 else ''} kept, proved on held-out samples: {where}: {proof.ruling.reason}"
    if proof.ruling.verdict is Verdict.EQUIVALENT:
        return Verdict.REPAIRED, made
    return Verdict.PARTLY_REPAIRED, made


def _located(session: Session, bench: Workbench, bake: bool) -> Located:
    with session.timed("localize"):
        return locate(bench, catalogue(), bake, lambda text: session.options.progress(text, 0, None))


def _nothing(located: Located | None) -> str:
    if located is None:
        return "Nothing of the plan could be kept."
    if located.treatment.unrelated:
        return "Most layers hold unrelated weights: the target is no conversion of this source, and is not repaired."
    if not located.steps:
        return "No part of the target was found that introduces error."
    return f"No repair helps the native model ({located.treatment.reason})."


def _notes(bench: Workbench, located: Located) -> list[str]:
    lines = [*bench.source_lift.notes, *bench.target_lift.notes]
    if located.treatment.remaining:
        lines.append(
            f"{len(located.treatment.remaining)} segment(s) stay guilty in the lifted graph: {located.treatment.reason}"
        )
    return lines


def _planned(session: Session, wanted: RepairOptions, journal: Journal | None) -> list[Group]:
    """The approved entries of a plan made for these very models."""
    assert wanted.plan is not None
    loaded, store, entries = _approved(session, wanted.plan)
    _log(
        journal,
        "plan",
        path=str(wanted.plan),
        approved=[e.id for e in entries],
        approved_by=wanted.approved_by,
        rejected=[e.id for e in loaded.entries if e.approved is False],
    )
    return [Group(e, plans.edits_of(e, store)) for e in entries]


def _approved(session: Session, path: str | Path) -> tuple[plans.Plan, ArrayStore, list[plans.Entry]]:
    loaded, store = plans.load(path)
    loaded.check_models(*session.paths)
    return loaded, store, loaded.approved()


def _offer_plan(
    session: Session, wanted: RepairOptions, path: str | Path, groups: Sequence[Group], store: ArrayStore
) -> str:
    """Write the plan that nobody asked for by name, where there is room; the note that says what became of it."""
    try:
        _save_plan(session, wanted, path, groups, store)
    except OutputError as error:
        return f"no plan was written: {error}"
    return f'plan written to {path}: set "approved" in it, and apply it with --apply --plan {path}'


def _save_plan(
    session: Session, wanted: RepairOptions, path: str | Path, groups: Sequence[Group], store: ArrayStore
) -> None:
    first, second = session.source_info, session.target_info
    plan = plans.Plan(
        source=plans.File(path=first.path, sha256=first.sha256),
        target=plans.File(path=second.path, sha256=second.sha256),
        seed=session.options.seed,
        options=_plain(session, wanted),
        entries=[g.entry for g in groups],
    )
    plans.save(plan, path, store)


def _plain(session: Session, wanted: RepairOptions) -> dict[str, Any]:
    """The options as plain data."""
    o = session.options
    names = (
        "samples",
        "seed",
        "rounds",
        "batch",
        "gate",
        "max_mismatch",
        "confidence",
        "source_arch",
        "target_arch",
        "trust",
    )
    data = {n: getattr(o, n) for n in names}
    return {**data, "data": None if o.data is None else str(o.data), "bake": wanted.bake, "apply": wanted.apply}


def _log(journal: Journal | None, event: str, **fields: Any) -> None:
    if journal is not None:
        journal.write(
            event, **{k: msgspec.to_builtins(v) if isinstance(v, msgspec.Struct) else v for k, v in fields.items()}
        )


def _log_located(journal: Journal | None, located: Located, found: Sequence[Finding]) -> None:
    if journal is None:
        return
    for item in found:
        _log(journal, "finding", finding=item)
    for step in located.steps:
        for remedy in step.diagnosis.tried:
            journal.write(
                "tried",
                code=remedy.code,
                edits=[e.describe() for e in remedy.edits],
                before=remedy.before,
                after=remedy.after,
                cost=remedy.cost,
                healed=remedy.healed,
                chosen=remedy is step.remedy,
            )


def _as(record: R, **changes: Any) -> R:
    """The record with some fields changed."""
    return msgspec.structs.replace(record, **changes)
