"""The result records of `fetafix gate`. Renderers work from these alone."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fetafix.report import Finding, Record, Report

GATE_SCHEMA_VERSION = 1


class Status(StrEnum):
    """How a pair came through."""

    PASSED = "passed"
    ACCEPTED = "accepted"  # it fails its gate, but every finding is accepted by the configuration
    FAILED = "failed"
    UNDECIDED = "undecided"


class Acceptance(Record, frozen=True, kw_only=True):
    """A finding that the configuration accepts. until: ISO date, "" for ever. expired: it no longer counts."""

    finding: Finding
    reason: str
    until: str = ""
    expired: bool = False


class PairResult(Record, frozen=True, kw_only=True):
    """One pair. cached: the source was not run, its outputs were known. unused: entries of accept without a finding."""

    name: str
    status: Status
    report: Report
    accepted: list[Acceptance] = []
    unused: list[str] = []
    cached: bool = False
    seconds: float = 0.0


class GateReport(Record, frozen=True, kw_only=True):
    """All pairs of a configuration, in its order."""

    config: str
    pairs: list[PairResult]
    notes: list[str] = []
    seconds: float = 0.0
    schema_version: int = GATE_SCHEMA_VERSION

    def count(self, status: Status) -> int:
        """How many pairs ended so."""
        return sum(p.status is status for p in self.pairs)

    @property
    def exit_code(self) -> int:
        """0 every pair passes or is accepted; 1 one fails; 3 none fails, one is undecided."""
        if self.count(Status.FAILED):
            return 1
        return 3 if self.count(Status.UNDECIDED) else 0


def to_json(report: GateReport) -> str:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
