"""What a person wants to know about an entry of the plan: the entry and what the report tells of it, in plain words.

Text of plans and reports is anybody's: nothing here is markup, and whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fetafix import plan as plans
from fetafix.exhibits import LayerError, Neighbourhood
from fetafix.faults import catalogue, document
from fetafix.report import Advice, Finding, Repair, Report

_ROUNDING = 1e-4
_TIMES = 2.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry with everything around it. findings: what the edits answer to. number: from 1, in the plan's order."""

    number: int
    entry: plans.Entry
    title: str
    advice: Advice
    findings: tuple[Finding, ...] = ()
    neighbourhoods: tuple[Neighbourhood, ...] = ()
    layers: tuple[LayerError, ...] = ()
    tried: Repair | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def before(self) -> str:
        """How far this part of the target is off as it is."""
        return off(self.entry.before)

    @property
    def after(self) -> str:
        """How far it is off with the edits."""
        return off(self.entry.after)


def proposals(plan: plans.Plan, report: Report | None) -> list[Proposal]:
    """All entries of a plan, in its order."""
    return [_proposal(i, entry, report) for i, entry in enumerate(plan.entries, 1)]


def off(error: float | None) -> str:
    """A relative L2 error in words."""
    if error is None:
        return "not measured"
    if error == 0:
        return "exactly as in the source"
    if error < _ROUNDING:
        return f"as in the source but for rounding ({error:.1g})"
    if error >= _TIMES:
        return f"off by {error:.3g} times the size of its values"
    return f"off by {100 * error:.3g}% of the size of its values"


def _proposal(number: int, entry: plans.Entry, report: Report | None) -> Proposal:
    codes = entry.code.split("+")
    at = [i for code in codes for i in _found(code, entry, report)]
    found = tuple(report.findings[i] for i in at) if report else ()
    exhibits = report.exhibits if report else None
    around = exhibits.neighbourhoods if exhibits else []
    return Proposal(
        number, entry, title=" and ".join(dict.fromkeys(map(_title, codes))), findings=found,
        advice=next((f.advice for f in found if f.advice is not None), None) or _documented(codes[0], entry),
        neighbourhoods=tuple(around[i] for i in at if i < len(around)),
        layers=tuple(x for x in (exhibits.layers if exhibits else []) if set(at) & set(x.findings)),
        tried=next((r for r in report.repairs if r.id == entry.id), None) if report else None,
        notes=tuple(_notes(entry, found)),
    )  # fmt: skip


def _found(code: str, entry: plans.Entry, report: Report | None) -> Sequence[int]:
    """Positions of the findings of a kind that an entry answers to: at its layer, else the only one of that kind."""
    alike = [i for i, f in enumerate(report.findings) if f.code == code] if report else []
    here = [i for i in alike if report and report.findings[i].target_layer == entry.target_layer]
    return here[:1] or (alike if len(alike) == 1 else [])


def _title(code: str) -> str:
    known = catalogue().get(code)
    return known.name if known is not None else "Unexplained difference" if code == "cg-unexplained" else code


def _documented(code: str, entry: plans.Entry) -> Advice:
    """What the catalogue tells of a kind of fault, where no report tells more."""
    if code not in catalogue():
        return Advice(evidence=[entry.why] if entry.why else [])
    told = {heading: " ".join(text.split()) for heading, text in document(code).items()}
    return Advice(
        meaning=told.get("What goes wrong", ""), evidence=[entry.why] if entry.why else [],
        remedy=told.get("Repair", ""), risk=told.get("When not to apply", ""),
    )  # fmt: skip


def _notes(entry: plans.Entry, found: Sequence[Finding]) -> list[str]:
    """What a person should take care of."""
    lines = []
    if entry.safety == "review":
        lines.append("This kind of edit can be right for the samples and wrong for other inputs: look closely.")
    if found and min(f.confidence for f in found) < 0.5:
        lines.append("It is not sure that this is what went wrong.")
    return lines
