"""`localize` and `repair` step by step, from an open session to the report.

judge → (equivalent? done) → lift and align → locate → [plan] → operate on copies → prove on held-out samples → write
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fetafix import (
    depth,
    evidence,
    explained,
    last_resort,
    offer,
    planning,
    preparation,
    ranking,
    repair,
    tapped,
    unmask,
)
from fetafix.api import report_on
from fetafix.edit_data import ArrayStore
from fetafix.errors import LiftError
from fetafix.exhibiting import differing, gather, native
from fetafix.exhibiting.attach import undone
from fetafix.faults import catalogue
from fetafix.findings import rejected
from fetafix.formats import sha256
from fetafix.heal import Rank
from fetafix.journal import Journal
from fetafix.judging import Judgement
from fetafix.localize import Located, locate
from fetafix.options import RepairOptions
from fetafix.outputs import default_output
from fetafix.patch import kept as patching
from fetafix.repair import Group, Surgeon, Trial
from fetafix.report import Finding, Output, Quantisation, Report, Verdict
from fetafix.session import Session
from fetafix.workbench import Workbench

R = TypeVar("R", bound=msgspec.Struct)


def localized(session: Session, reproductions: str | Path | None = None) -> Report:
    """The report of `localize`. reproductions: a folder that minimal ones of the findings are written to."""
    judgement = depth.judged(session, stop=True)
    report = evidence.extended(session, _as(report_on(session, judgement), command="localize"), judgement)
    if _settled(report, session):
        return report
    report = differing.judged(report, session, judgement, "all")
    with ExitStack() as stack:
        bench = _lifted(session, stack)
        if bench.failures:
            return _tapped(report, session, bench)
        located = _located(session, bench, False, _agree(judgement), ranking.between(session))
        if report.verdict is Verdict.EQUIVALENT and session.annexes:  # only inputs that hang on ties differ
            if not located.steps:
                return report
            report = evidence.seen_inside(report)
        report = evidence.unmasked(session, report)
        notes = [*report.notes, *_notes(bench, located)]
        report = _as(report, findings=located.findings(bench, catalogue()), notes=notes)
        if reproductions is not None:
            report = _reproduced(report, bench, located, reproductions)
        return gather.located(_explained(report, bench, located), bench, located)


def repaired(session: Session, wanted: RepairOptions) -> Report:
    """The report of `repair`; writes the repaired artifact, the plan and the journal where that is wanted."""
    if wanted.plan:  # before the work: a plan that cannot be applied is noticed at once, and what it says stays
        planning.approved(session, held := planning.held(wanted.plan))
        wanted = dataclasses.replace(wanted, plan=held)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(wanted.journal))
        judgement = depth.judged(session)
        report = evidence.extended(session, _as(report_on(session, judgement), command="repair"), judgement)
        if journal.path is None and wanted.offer_journal and not _settled(report, session):
            journal = stack.enter_context(Journal(wanted.offer_journal))
        report = _as(report, journal=str(journal.path) if journal.path else None)
        facts = {"source": session.source_info, "target": session.target_info}
        journal.write("repair", **facts, options=planning.plain(session, wanted))
        journal.write("judged", which="all", verdict=report.verdict, agreement=report.agreement)
        if report.search is not None:
            journal.write("searched", search=report.search)
        if _settled(report, session) and not (wanted.plan and report.passed):
            journal.write("nothing to repair", reason=report.reason)
            return report
        report = differing.judged(report, session, judgement, "all")
        bench = _lifted(session, stack)
        if bench.failures:
            report = _tapped(report, session, bench)
            for item in report.findings:
                journal.write("finding", finding=item)
            why = "Nothing can be repaired: that takes an ONNX view that answers as the model does"
            report = _as(report, reason=f"{report.reason.rstrip('.')}. {why} (see the notes).")
        else:
            report = Operation(session, bench, wanted, journal, stack, _agree(judgement)).run(report)
        return last_resort.tried(session, report, wanted, journal)


class Operation:
    """One repair, from the open workbench to the report."""

    def __init__(
        self, session: Session, bench: Workbench, wanted: RepairOptions, journal: Journal, stack: ExitStack,
        agree: bool,
    ) -> None:  # fmt: skip
        self.agree = agree  # whether the samples do
        self.session, self.bench, self.wanted, self.journal = session, bench, wanted, journal
        self.out = Path(wanted.output) if wanted.output else default_output(session.paths[1])
        self.ranking = ranking.between(session)
        self.surgeon = stack.enter_context(Surgeon(session, bench.target_lift.path, bench.folder, journal))

    def run(self, report: Report) -> Report:
        """Find, apply, prove, write; `report` is that of the pair as it is."""
        located, groups, found, notes = self._propose()
        if report.verdict is Verdict.EQUIVALENT and self.session.annexes:  # only inputs that hang on ties differ
            if not groups:
                return report
            report = evidence.seen_inside(report)
        report = evidence.unmasked(self.session, report)
        search = self.session.judge("search")
        with self.session.timed("operate"):
            trial = self.surgeon.operate(groups, search) if groups else Trial((), None, search)
        extra = rejected(located.steps, self.bench.names[1]) if located else []
        offered = self._offered(trial)
        report = _as(
            report, findings=found, repairs=repair.records(trial, extra), offers=offered.models,
            notes=[*report.notes, *notes, *offered.notes],
        )  # fmt: skip
        if located is not None:
            report = _explained(report, self.bench, located, repaired=trial.copy is not None)
        report = gather.located(report, self.bench, located, trial)
        if trial.copy is None:
            self.journal.write("nothing kept", reason=_nothing(located))
            return _as(report, reason=f"{report.reason.rstrip('.')}. {_nothing(located)}")
        return self._prove(report, trial, located)

    def _propose(self) -> tuple[Located | None, list[Group], list[Finding], list[str]]:
        """What to apply: the plan's approved entries, or what localization finds; with findings and notes."""
        if self.wanted.plan:
            return None, planning.groups(self.session, self.wanted, self.journal), [], []
        store = ArrayStore()
        ranking.note(self.journal, self.ranking)
        located = _located(self.session, self.bench, self.wanted.bake, self.agree, self.ranking)
        groups = repair.groups_of(located, self.bench, catalogue(), store)
        found = located.findings(self.bench, catalogue())
        _log_located(self.journal, located, found)
        notes = _notes(self.bench, located)
        if self.wanted.save_plan:
            planning.save(self.session, self.wanted, self.wanted.save_plan, groups, store)
        elif self.wanted.offer_plan and groups:
            notes.append(planning.offer(self.session, self.wanted, self.wanted.offer_plan, groups, store))
        return located, groups, found, notes

    def _offered(self, trial: Trial) -> offer.Offered:
        """What the target's format cannot express, in other models beside the output."""
        if not offer.unwritten(trial):
            return offer.Offered()
        with self.session.timed("offer"):
            lifted = self.bench.target_lift.path
            return offer.offer(self.session, lifted, trial, self.out, self.wanted.apply, self.journal)

    def _prove(self, report: Report, trial: Trial, located: Located | None) -> Report:
        """Judge the kept copy on the held-out samples, and write it where that is wanted and it is no step back."""
        assert trial.copy is not None
        first = self.session.judge("heldout")
        with self.session.timed("prove"):
            proof = self.surgeon.judge("heldout", trial.copy)
        self.journal.write("proof", which="heldout", before=first.agreement, after=proof.agreement)
        if not repair.better(proof, first) and self.session.samplings.heldout:
            return self._rolled_back(_as(report, agreement=first.agreement))
        mended = differing.Repaired(trial.copy.process, trial.copy.preprocess, proof)
        report = differing.judged(report, self.session, first, "heldout", mended)
        ranking.teach(self.journal, self.ranking, located.steps if located else (), trial.kept)
        verdict, reason = _ending(proof, trial, self.wanted, report.quantisation)
        left = evidence.still_hidden(self.session, proof, trial.copy.process) if trial.copy.preprocess is None else ""
        if left:
            verdict, reason = Verdict.PARTLY_REPAIRED, f"{reason.rstrip('.')}; but {left}"
        output = self._write(trial.kept) if self.wanted.apply else None
        if repair.preprocessing(trial.kept):
            report = _as(report, notes=[*report.notes, self._prepared(trial.kept)])
        if self.wanted.save_patch:
            report = _as(report, notes=[*report.notes, self._patched(trial, proof)])
        return _as(
            report, verdict=verdict, reason=reason, output=output, agreement=first.agreement, after=proof.agreement,
            passed=proof.ruling.passed,
        )  # fmt: skip

    def _patched(self, trial: Trial, proof: Judgement) -> str:
        """Write what was kept as a patch; the note that says so."""
        assert trial.copy is not None and self.wanted.save_patch is not None
        with self.session.timed("patch"):
            made = patching.of(self.session, self.bench, trial, proof, self.wanted)
        self.journal.write("patch", path=str(self.wanted.save_patch), irrevocable=made.irrevocable)
        return patching.note(self.wanted.save_patch, made)

    def _rolled_back(self, report: Report) -> Report:
        why = "on samples that the repair was not chosen on it is no better, so it is dropped"
        dropped = [_as(r, status="rejected", why=why) if r.status == "kept" else r for r in report.repairs]
        self.journal.write("rolled back", reason=why)
        report = undone(report)
        return _as(report, repairs=dropped, reason=f"{report.reason.rstrip('.')}. The repair was rolled back: {why}.")

    def _write(self, kept: Sequence[Group]) -> Output:
        written = self.surgeon.write(kept, self.out)
        output = Output(path=str(written.path), sha256=sha256(written.path))
        entries = [g.entry.id for g in kept]
        self.journal.write("written", output=output, entries=entries, approved_by=self.wanted.approved_by)
        return output

    def _prepared(self, kept: Sequence[Group]) -> str:
        """How to prepare the repaired model's inputs; beside an applied repair a configuration says it too."""
        changes = repair.preprocessing(kept)
        recipe = preparation.wanted(self.session, changes)
        note = f"the target's inputs have to be prepared otherwise: {preparation.option(recipe)}"
        if not self.wanted.apply:
            return note
        path = preparation.write(self.session, self.out, changes)
        self.journal.write("written", configuration=str(path))
        return f"{note}; {path} holds this configuration for fetafix -c"


def _settled(report: Report, session: Session) -> bool:
    """Whether there is nothing to look for: answers and interfaces agree, or the source has no answer to agree with."""
    sound = report.verdict is Verdict.EQUIVALENT and not session.bindings.extra
    return (sound and not session.annexes) or report.verdict is Verdict.UNDECIDED


def _explained(report: Report, bench: Workbench, located: Located, repaired: bool = False) -> Report:
    """The report with what rounding to codes explains; where that is everything, the reason says so.

    Between unrelated networks it explains nothing.
    """
    if located.treatment.unrelated:
        return report
    found = explained.quantisation(bench, located, repaired)
    report = _as(report, quantisation=found, findings=[*report.findings, *explained.misnamed(bench, found)])
    if found is None or not found.within or report.passed or repaired or located.steps:
        return report
    numeric = report.gate == "numeric" and report.verdict is Verdict.DIVERGENT
    verdict = Verdict.DRIFTING if numeric else report.verdict
    return _as(report, verdict=verdict, reason=f"{report.reason.rstrip('.')}; {explained.words(found)}")


def _reproduced(report: Report, bench: Workbench, located: Located, folder: str | Path) -> Report:
    """The report, once each finding was cut out of its models and written to a folder. Raises OutputError."""
    from fetafix import repro
    from fetafix.repro.gather import gather

    if not report.findings:
        return report
    with bench.session.timed("reproduce"):
        made = repro.write(folder, gather(located, bench, catalogue()), report.source, report.target)
    return _as(report, reproductions=made)


def _lifted(session: Session, stack: ExitStack) -> Workbench:
    """The workbench, open until the stack closes; its `failures` say where a lift does not serve."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetafix-")))
    bench = Workbench(session, folder)
    stack.callback(bench.close)
    with session.timed("lift"), contextlib.suppress(LiftError):  # it keeps what is wrong
        bench.__enter__()
    return bench


def _tapped(report: Report, session: Session, bench: Workbench) -> Report:
    """The report with what the native runtimes tell of the layers."""
    with session.timed("localize"):
        seen = tapped.locate(bench)
    report = _as(report, findings=list(seen.findings), notes=[*report.notes, *seen.notes])
    return native.tapped(report, session, seen)


def _agree(judgement: Judgement) -> bool:
    return judgement.ruling.verdict is Verdict.EQUIVALENT


def _located(session: Session, bench: Workbench, bake: bool, agree: bool, rank: Rank) -> Located:
    """agree: whether the samples do."""

    def progress(text: str) -> None:
        session.options.progress(text, 0, None)

    with session.timed("localize"):
        located = locate(bench, catalogue(), bake, progress, rank)
        return unmask.further(bench, located, list(catalogue().values()), agree, progress)


def _ending(
    proof: Judgement, trial: Trial, wanted: RepairOptions, codes: Quantisation | None
) -> tuple[Verdict, str]:
    """The verdict after a repair that helped, and the sentence that says so.

    A quantised model cannot agree to the last bit: it counts as repaired where it passes its gate and what is left in
    every layer is what its codes explain.
    """
    where = "the repaired model" if wanted.apply else "the repaired model (dry run: --apply writes it)"
    count = len(trial.kept)
    made = f"{count} repair{'s' if count != 1 else ''} kept, proved on held-out samples: {where}: {proof.ruling.reason}"
    whole = proof.ruling.verdict is Verdict.EQUIVALENT
    if codes is not None and codes.within and not whole:
        whole = bool(proof.ruling.passed)
        made = f"{made.rstrip('.')}. What is left is within what rounding explains in every layer"
    return Verdict.REPAIRED if whole else Verdict.PARTLY_REPAIRED, made


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
    found = sum(len(a.names) for a in bench.session.annexes)
    if found:
        lines.append(f"{found} inputs that a search found beside the samples are compared with them; a repair is "
                     "chosen on half of them and proved on the others")
    left, why = len(located.treatment.remaining), located.treatment.reason
    return [*lines, f"{left} segment(s) stay guilty in the lifted graph: {why}"] if left else lines


def _log_located(journal: Journal, located: Located, found: Sequence[Finding]) -> None:
    for item in found:
        journal.write("finding", finding=item)
    for step in located.steps:
        for remedy in step.diagnosis.tried:
            figures = {"before": remedy.before, "after": remedy.after, "cost": remedy.cost, "healed": remedy.healed}
            edits = [e.describe() for e in remedy.edits]
            journal.write("tried", code=remedy.code, edits=edits, **figures, chosen=remedy is step.remedy)


def _as(record: R, **changes: Any) -> R:
    """The record with some fields changed."""
    return msgspec.structs.replace(record, **changes)
