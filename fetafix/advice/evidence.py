"""Why a finding is believed, sentence by sentence, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fetafix.advice.meaning import OTHERS, SHOWS, sections
from fetafix.advice.prose import off, sentence, sure
from fetafix.faults import catalogue
from fetafix.report import Agreement, Finding, Repair, Report

_SAME = 1e-6
_TAPPED = "cg-native"


def evidence(finding: Finding, report: Report, tried: Sequence[Repair]) -> list[str]:
    """The sentences; at least how sure it is. tried: the report's repairs of this finding."""
    told = [*_measured(finding), *_alone(finding, report), *_seen(finding), *_trial(finding, tried)]
    told += [*_proof(report, tried), *_samples(report)]
    signs = sections(finding.code).get(SHOWS)
    told += [f"Typical of this kind of fault: {signs}"] if signs and finding.code not in OTHERS else []
    percent = f"{100 * finding.confidence:.0f}%"
    return [*told, f"Taken together this is {sure(finding.confidence)} (confidence {percent})."]


def _measured(finding: Finding) -> Iterator[str]:
    """The error made here."""
    error, failure = finding.local_error, finding.evidence.get("failure")
    if failure:
        yield sentence(f"Given exactly what the source has at this place, the target cannot compute it: {failure}")
    elif error is not None and _outside(finding):
        yield (f"On the same samples what comes out is off by {off(error)} of its size." if error > _SAME else
               "What both models put out under the same names is the same.")
    elif error is not None:
        yield (f"Given exactly what the source has right before this place, the target makes something else of it, off "
               f"by {off(error)} of its size: the error is made here, and not carried here from before.")
    elif not _outside(finding) and "layers" not in finding.evidence and finding.code != "st-storage":
        yield ("Given exactly what the source has right before this place, the target makes something of another shape "
               "or size, or something that is no number.")


def _outside(finding: Finding) -> bool:
    """Whether it is about the models' inputs and outputs, so that whole models were compared."""
    fault = catalogue().get(finding.code)
    return finding.target_layer is None or (fault is not None and fault.scope != "segment")


def _alone(finding: Finding, report: Report) -> Iterator[str]:
    """That elsewhere nothing of the kind was found."""
    if _outside(finding) or finding.code in (_TAPPED, "st-storage") or "layers" in finding.evidence:
        return
    others = len(report.findings) - 1
    but = "" if not others else ", but for the other finding" if others == 1 else f", but for {others} other findings"
    yield f"Every other part was tested in the same way. None of them is to blame{but}."


def _seen(finding: Finding) -> Iterator[str]:
    if finding.explanation:
        yield f"What was seen: {sentence(finding.explanation)}"
    if finding.evidence.get("proved_by_forcing"):
        yield "With the source's values put in its place, what follows agrees again: that proves it."


def _trial(finding: Finding, tried: Sequence[Repair]) -> Iterator[str]:
    """What the edit did at this place."""
    before, after = finding.local_error, finding.evidence.get("error_after_trial")
    if isinstance(after, int | float) and (before is None or before > _SAME):
        done = "nothing" if after == 0 else "no more than rounding makes" if after < _SAME else off(after)
        began = "" if before is None else f" from {off(before)}"
        yield f"With the repair tried at this place alone, the error goes{began} to {done}."
    lost = [r for r in tried if r.status == "rejected" and r.before is not None and r.after is not None]
    if lost:
        yield f"{len(lost)} other edit{'s' if len(lost) > 1 else ''} tried here did less, or changed more."


def _proof(report: Report, tried: Sequence[Repair]) -> Iterator[str]:
    """What the whole repaired model showed."""
    if report.after is None or not any(r.status == "kept" for r in tried):
        return
    before, after = (_share(a) for a in (report.agreement, report.after))
    if before is not None and after is not None:
        yield (f"The repaired model, run on samples that the repair was not chosen on, gives the source's label for "
               f"{after}; before it was {before}.")
    elif report.agreement is not None and report.agreement.max_abs is not None and report.after.max_abs is not None:
        yield (f"The repaired model, run on samples that the repair was not chosen on, differs from the source by at "
               f"most {report.after.max_abs:.3g}; before it was {report.agreement.max_abs:.3g}.")


def _share(agreement: Agreement | None) -> str | None:
    if agreement is None or agreement.top1 is None:
        return None
    return f"{round(agreement.top1 * agreement.samples)} of {agreement.samples}"


def _samples(report: Report) -> Iterator[str]:
    if "synthetic" in report.samples.origin:
        yield "The inputs were made up by fetafix, which is weaker evidence than real ones."
