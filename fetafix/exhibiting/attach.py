"""Exhibits become part of a report."""

from __future__ import annotations

from typing import Any

import msgspec

from fetafix.exhibits import Exhibits, Neighbourhood
from fetafix.report import Report


def attached(report: Report, **changes: Any) -> Report:
    """The report with some fields of its exhibits set."""
    exhibits = msgspec.structs.replace(report.exhibits or Exhibits(), **changes)
    return msgspec.structs.replace(report, exhibits=exhibits)


def behind(report: Report, count: int) -> Report:
    """The report once `count` findings without exhibits came before those that it had."""
    if report.exhibits is None or not count:
        return report
    rows = [msgspec.structs.replace(r, findings=[i + count for i in r.findings]) for r in report.exhibits.layers]
    around = [*(Neighbourhood() for _ in range(count)), *report.exhibits.neighbourhoods]
    return attached(report, layers=rows, neighbourhoods=around)


def undone(report: Report) -> Report:
    """The report once its repair was dropped: nothing is shown of what that left."""
    if report.exhibits is None:
        return report
    return attached(report, layers=[msgspec.structs.replace(r, after=None) for r in report.exhibits.layers])
