"""What a person wants to know about an entry of the plan: the entry and what the report tells of it, in plain words.

Text of plans and reports is anybody's: nothing here is markup, and whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fetafix import plan as plans
from fetafix.advice.meaning import REPAIR, UNLESS, meaning, sections
from fetafix.advice.prose import sentence
from fetafix.faults import catalogue
from fetafix.heal import UNEXPLAINED
from fetafix.report import Advice, Finding, Repair, Report

_ROUNDING = 1e-4
_TIMES = 2.0
_UNSURE = 0.5


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry with what belongs to it. number: from 1, in the plan's order.

    at: positions in the report of the findings that the edits answer to. told: what is known of each of these, or, of
    an entry without, of its kind. tried: what the trial run made of it.
    """

    number: int
    entry: plans.Entry
    title: str
    at: tuple[int, ...]
    told: tuple[Advice, ...]
    findings: tuple[Finding, ...] = ()
    tried: Repair | None = None

    @property
    def what(self) -> str:
        """What the figures are about."""
        return "this part of the model" if self.entry.target_layer else "what the model puts out"

    @property
    def before(self) -> str:
        """How far this part of the target is off as it is."""
        return off(self.entry.before)

    @property
    def after(self) -> str:
        """How far it is off with the edits."""
        return off(self.entry.after)

    @property
    def meaning(self) -> list[str]:
        """What went wrong, and what that does to answers."""
        return _each(a.meaning for a in self.told)

    @property
    def evidence(self) -> list[str]:
        """Why that is believed."""
        return _each(line for a in self.told for line in a.evidence)

    @property
    def remedy(self) -> list[str]:
        """What the edits do."""
        return _each(a.remedy for a in self.told)

    @property
    def risk(self) -> list[str]:
        """What could go wrong with them."""
        return _each(a.risk for a in self.told)

    @property
    def cares(self) -> list[str]:
        """What a person should look at twice."""
        return list(_cares(self))


def proposals(plan: plans.Plan, report: Report | None) -> list[Proposal]:
    """All entries of a plan, in its order."""
    return [_proposal(i, entry, report) for i, entry in enumerate(plan.entries, 1)]


def off(error: float | None) -> str:
    """A relative L2 error in words."""
    if error is None:
        return "not measured"
    if error == 0:
        return "exactly as in the original"
    if error < _ROUNDING:
        return f"as in the original but for rounding ({error:.1g})"
    if error >= _TIMES:
        return f"off by {error:.3g} times the size of its values"
    return f"off by {100 * error:.3g}% of the size of its values"


def _proposal(number: int, entry: plans.Entry, report: Report | None) -> Proposal:
    codes = entry.code.split("+")
    at = tuple(dict.fromkeys(i for code in codes for i in _found(code, entry, report)))
    found = tuple(report.findings[i] for i in at) if report else ()
    told = tuple(f.advice for f in found if f.advice is not None)
    tried = next((r for r in report.repairs if r.id == entry.id), None) if report else None
    title = " and ".join(dict.fromkeys(map(_title, codes)))
    return Proposal(number, entry, title, at, told or tuple(_documented(c, entry) for c in codes), found, tried)


def _found(code: str, entry: plans.Entry, report: Report | None) -> Sequence[int]:
    """Positions of the findings of a kind that an entry answers to: at its layer, else the only one of that kind."""
    alike = [i for i, f in enumerate(report.findings) if f.code == code] if report else []
    here = [i for i in alike if report and report.findings[i].target_layer == entry.target_layer]
    return here[:1] or (alike if len(alike) == 1 else [])


def _title(code: str) -> str:
    known = catalogue().get(code)
    return known.name if known is not None else "Unexplained difference" if code == UNEXPLAINED else code


def _documented(code: str, entry: plans.Entry) -> Advice:
    """What the catalogue tells of a kind of fault, where no report tells more."""
    known = catalogue().get(code)
    made_up = Finding(code=code, category=known.category if known else "CG", title=_title(code))
    why = f"In the trial, {entry.why}" if entry.why else ""
    return Advice(
        meaning=meaning(made_up), evidence=[sentence(why)] if why else [],
        remedy=sentence(sections(code).get(REPAIR, "")), risk=sentence(sections(code).get(UNLESS, "")),
    )  # fmt: skip


def _cares(p: Proposal) -> Iterator[str]:
    if p.entry.safety == "review":
        yield "This kind of edit can be right for the samples and wrong for other inputs: look closely."
    if p.findings and min(f.confidence for f in p.findings) < _UNSURE:
        yield "It is not sure that this is what went wrong."
    if p.tried is not None and p.tried.status != "kept":
        yield sentence(f"In the trial run this edit was not kept: {p.tried.why}")


def _each(texts: Iterator[str]) -> list[str]:
    """Texts, each once, empty ones left out."""
    return [t for t in dict.fromkeys(texts) if t]
