"""Findings that a configuration accepts: which of them are there, which have run out, which are there no more."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from fetafix.config import Accept
from fetafix.gate.record import Acceptance
from fetafix.report import Finding


def matched(
    findings: Sequence[Finding], entries: Sequence[Accept], today: datetime.date
) -> tuple[list[Acceptance], list[str]]:
    """(what is accepted of the findings, in their order; the entries that met no finding, in words).

    An entry without a layer accepts its fault type at every layer. It holds through the day it names.
    """
    found = []
    for finding in findings:
        meant = sorted((e for e in entries if _meets(e, finding)), key=lambda e: expired(e, today))
        if meant:
            until = meant[0].until.isoformat() if meant[0].until else ""
            found.append(Acceptance(
                finding=finding, reason=meant[0].reason, until=until, expired=expired(meant[0], today)))
    return found, [words(e) for e in entries if not any(_meets(e, f) for f in findings)]


def all_accepted(findings: Sequence[Finding], accepted: Sequence[Acceptance]) -> bool:
    """Whether there are findings, and each is accepted by an entry that has not run out."""
    live = [a.finding for a in accepted if not a.expired]
    return bool(findings) and all(f in live for f in findings)


def expired(entry: Accept, today: datetime.date) -> bool:
    """Whether an entry no longer counts."""
    return entry.until is not None and today > entry.until


def words(entry: Accept) -> str:
    """An entry as a person would name it."""
    where = f" at {entry.target_layer}" if entry.target_layer else ""
    until = f", until {entry.until.isoformat()}" if entry.until else ""
    return f"{entry.code}{where} ({entry.reason}{until})"


def notes(findings: Sequence[Finding], entries: Sequence[Accept], today: datetime.date) -> list[str]:
    """What a report outside the gate says of accepted findings: there they change nothing."""
    lines = []
    for a in matched(findings, entries, today)[0]:
        where = a.finding.target_layer or "the interface"
        if a.expired:
            lines.append(f"{a.finding.code} at {where} was accepted until {a.until} only ({a.reason})")
        else:
            until = f" until {a.until}" if a.until else ""
            lines.append(f"{a.finding.code} at {where} is accepted by the configuration{until} ({a.reason}); "
                         "fetafix gate passes what is accepted")
    return lines


def _meets(entry: Accept, finding: Finding) -> bool:
    return entry.code == finding.code and entry.target_layer in (None, finding.target_layer)
