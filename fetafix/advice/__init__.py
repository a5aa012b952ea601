"""Findings in plain words, for a reader who knows no framework: what, why it is believed, and what to do.

    advised(report)            the report, each of its findings with advice
    advice(finding, report)    the advice of one

The words about a kind of fault come from its own documentation (`fetafix.faults`), the figures from the report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fetafix.advice.evidence import evidence
from fetafix.advice.meaning import REPAIR, UNLESS, meaning, sections
from fetafix.advice.prose import plain, sentence
from fetafix.advice.steps import steps
from fetafix.faults import catalogue
from fetafix.report import Advice, Finding, Repair, Report

__all__ = ["Advice", "advice", "advised"]

_ACTION = re.compile(r"^\S+: ")  # what a tensor is called inside fetafix says nothing to a reader
_CARE = "What it does to the model has to be judged by a person who knows it before it is used."
_UNTOUCHED = "The model files themselves are never changed: a repair is written to a new file."
_LEFT = ("Nothing is changed, so nothing can be spoiled. But used as it is, the target answers otherwise than the "
         "source, and not only on the samples tried here.")  # fmt: skip


def advised(report: Report) -> Report:
    """The report with advice on every finding; on none that has it already."""
    found = [f if f.advice is not None else msgspec.structs.replace(f, advice=advice(f, report))
             for f in report.findings]
    return msgspec.structs.replace(report, findings=found)


def advice(finding: Finding, report: Report) -> Advice:
    """What the finding means, and what to do about it."""
    tried = [r for r in report.repairs if _of(r, finding)]
    mendable = _mendable(finding, tried)
    remedy = _remedy(finding, tried) if mendable else ""
    return Advice(
        meaning=meaning(finding), evidence=evidence(finding, report, tried), remedy=remedy,
        risk=_risk(finding) if remedy else _LEFT, next_steps=steps(finding, report, tried, mendable),
    )


def _of(repair: Repair, finding: Finding) -> bool:
    """Whether a repair is this finding's; one that mends several names all their codes."""
    together = "+" in repair.code
    return finding.code in repair.code.split("+") and (together or repair.target_layer == finding.target_layer)


def _mendable(finding: Finding, tried: Sequence[Repair]) -> bool:
    """Whether there is a repair: one was kept, or refused by the format alone, or helped at the place itself."""
    if any(r.status in ("kept", "unsupported") for r in tried):
        return True
    return finding.code in catalogue() and "error_after_trial" in finding.evidence


def _remedy(finding: Finding, tried: Sequence[Repair]) -> str:
    """What the edit does here, and what such a repair does in general."""
    chosen = next((r for r in tried if r.status in ("kept", "unsupported")), None)
    edits = [_ACTION.sub("", str(e.get("description") or "")) for e in chosen.edits] if chosen is not None else []
    place = f", at {finding.target_layer}" if finding.target_layer else ""
    here = f"Here{place}: {plain('; '.join(dict.fromkeys(filter(None, edits))))}." if any(edits) else ""
    return " ".join(t for t in (sentence(sections(finding.code).get(REPAIR, "")), here) if t)


def _risk(finding: Finding) -> str:
    known = sections(finding.code).get(UNLESS, "")
    unless = f"It would be wrong, or to no use, in these cases. {sentence(known)}" if known else ""
    care = _CARE if finding.code in catalogue() and catalogue()[finding.code].safety == "review" else ""
    return " ".join(t for t in (unless, care, _UNTOUCHED) if t)
