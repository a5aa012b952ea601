"""Where copying from the source does not repair a struck target: its sidecar, or a guard, judged as every repair is.

The mended file is opened natively, must agree better with the source on the samples to search with than the target and
than the repair so far, and is proved on the held-out ones.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fetafix import repair
from fetafix.errors import FetafixError
from fetafix.exhibiting import differing
from fetafix.exhibiting.attach import behind, undone
from fetafix.files import replacing
from fetafix.formats import sha256
from fetafix.journal import Journal
from fetafix.judging import Judgement
from fetafix.options import RepairOptions
from fetafix.outputs import default_output
from fetafix.parallel import ModelProcess
from fetafix.report import Finding, Output, Repair, Report, Verdict
from fetafix.restore import Restored, restorations
from fetafix.session import Session

CODE = "st-storage"
_TITLE = "Stored bytes damaged"


def tried(session: Session, report: Report, wanted: RepairOptions, journal: Journal) -> Report:
    """The report, with a restoration of the target's own bytes where that is better than what it has."""
    target = Path(session.paths[1])
    if report.verdict in (Verdict.REPAIRED, Verdict.EQUIVALENT) or wanted.plan or not target.is_file():
        return report
    before: dict[str, Judgement] = {}
    with tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        for restored in restorations(target, Path(folder)):
            before = before or {"search": session.judge("search"), "heldout": session.judge("heldout")}
            proof = _proof(session, restored, before, report)
            report = report if proof is None else proof.shown
            journal.write("restoration", how=restored.how, tensors=restored.tensors, kept=proof is not None)
            if proof is not None:
                return _kept(session, report, restored, before["heldout"], proof.judgement, wanted, journal)
            report = msgspec.structs.replace(report, repairs=[*report.repairs, _record(restored, "rejected")])
    return report


@dataclass(frozen=True)
class _Proof:
    """The judgement of a restored copy on held-out samples, and the report that shows what it answers."""

    judgement: Judgement
    shown: Report


def _proof(session: Session, made: Restored, before: dict[str, Judgement], report: Report) -> _Proof | None:
    """The proof of a copy that is better; None of one that is not."""
    try:
        with closing(ModelProcess(made.path, session.opening("target"))) as process:
            if not repair.better(session.judge("search", process), before["search"]):
                return None
            proof = session.judge("heldout", process)
            if not repair.better(proof, before["heldout"]) and session.samplings.heldout:
                return None
            if report.after is not None and not _beats(proof, report):
                return None
            mended = differing.Repaired(process, None, proof)
            return _Proof(proof, differing.judged(undone(report), session, before["heldout"], "heldout", mended))
    except FetafixError:
        return None


def _beats(proof: Judgement, report: Report) -> bool:
    """Whether a restoration leaves less of a difference than the repair that the report has."""
    assert report.after is not None
    if bool(proof.ruling.passed) != bool(report.passed):
        return bool(proof.ruling.passed)
    ours, theirs = proof.agreement, report.after
    return (ours.top1 or 0.0, -(ours.max_abs or 0.0)) > (theirs.top1 or 0.0, -(theirs.max_abs or 0.0))


def _kept(
    session: Session, report: Report, made: Restored, before: Judgement, proof: Judgement, wanted: RepairOptions,
    journal: Journal,
) -> Report:  # fmt: skip
    verdict = Verdict.REPAIRED if proof.ruling.verdict is Verdict.EQUIVALENT else Verdict.PARTLY_REPAIRED
    where = "" if wanted.apply else " (dry run: --apply writes it)"
    reason = f"{made.words}{where}, proved on held-out samples: {proof.ruling.reason}"
    output = _written(session, made, wanted, journal) if wanted.apply else None
    others = [r if r.status != "kept" else msgspec.structs.replace(r, status="rejected", why="restoring is better")
              for r in report.repairs]
    found = _findings(made)
    report = behind(report, len(found))
    return msgspec.structs.replace(
        report, verdict=verdict, reason=reason, output=output, agreement=before.agreement, after=proof.agreement,
        passed=proof.ruling.passed, findings=[*found, *report.findings],
        repairs=[_record(made, "kept"), *others],
    )


def _written(session: Session, made: Restored, wanted: RepairOptions, journal: Journal) -> Output:
    out = Path(wanted.output) if wanted.output else default_output(session.paths[1])
    with replacing(out) as temporary:
        shutil.copyfile(made.path, temporary)
    output = Output(path=str(out), sha256=sha256(out))
    journal.write("written", output=output, restored=made.how, approved_by=wanted.approved_by)
    return output


def _findings(made: Restored) -> list[Finding]:
    what = "values out of range or not finite" if made.how == "guard" else "bytes that the code beside the file mended"
    return [
        Finding(code=CODE, category="ST", title=_TITLE, target_layer=name, evidence={"elements": count},
                confidence=0.9 if made.lossy else 1.0, explanation=f"{count} {what}")
        for name, count in made.tensors.items()
    ]  # fmt: skip


def _record(made: Restored, status: str) -> Repair:
    why = "the native model agrees better, and does so on held-out samples"
    edits = [{"kind": made.how, "description": made.words, "tensors": made.tensors, "lossy": made.lossy}]
    return Repair(id=made.how, code=CODE, edits=edits, status=status,
                  why=why if status == "kept" else "does not improve the native model")
