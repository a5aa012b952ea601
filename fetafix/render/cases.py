"""Pairs as CI systems count them: a report is one, a gate's report several; each with how it came through.

The renderers for CI systems work from these, so that one pair looks the same whichever command judged it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fetafix.gate.record import Acceptance, GateReport, Status
from fetafix.report import Finding, Report, Verdict

WORDS = {
    Status.PASSED: "passed", Status.ACCEPTED: "accepted", Status.FAILED: "failed", Status.UNDECIDED: "undecided",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A pair. name: the configuration's (then it is `named`), or both files'. accepted: what is said of findings."""

    name: str
    status: Status
    report: Report
    accepted: Sequence[Acceptance] = ()
    unused: Sequence[str] = ()
    cached: bool = False
    seconds: float = 0.0
    named: bool = True

    def acceptance(self, finding: Finding) -> Acceptance | None:
        """What the configuration says of a finding, expired or not; None where it says nothing."""
        return next((a for a in self.accepted if _place(a.finding) == _place(finding)), None)

    def mended(self, finding: Finding) -> bool:
        """Whether a repair of this finding was kept."""
        return any(r.status == "kept" and (r.code, r.target_layer) == (finding.code, finding.target_layer)
                   for r in self.report.repairs)  # fmt: skip

    def level(self, finding: Finding) -> str:
        """How much a finding weighs: "error" (its pair fails), "warning", or "note" (accepted, or mended)."""
        known = self.acceptance(finding)
        if (known is not None and not known.expired) or self.mended(finding):
            return "note"
        return "error" if self.status is Status.FAILED else "warning"


def cases(report: Report | GateReport) -> list[Case]:
    """The pairs of a report."""
    if isinstance(report, Report):
        seconds = report.timings.get("total", 0.0)
        return [Case(f"{report.source.path} → {report.target.path}", _status(report), report,
                     seconds=seconds, named=False)]
    return [Case(p.name, p.status, p.report, p.accepted, p.unused, p.cached, p.seconds) for p in report.pairs]


def command(report: Report | GateReport) -> str:
    """Which command made it."""
    return report.command if isinstance(report, Report) else "gate"


def told(finding: Finding) -> str:
    """What a finding says beyond its title; "" where there is nothing."""
    return finding.explanation or (finding.advice.meaning if finding.advice else "")


def place(finding: Finding) -> str:
    """Where a finding lies, in both models' names."""
    target = finding.target_layer or "the interface"
    return f"{target} (source: {finding.source_layer})" if finding.source_layer else target


def waived(acceptance: Acceptance) -> str:
    """In words: that a finding is accepted, until when and why."""
    if acceptance.expired:
        return f"was accepted until {acceptance.until}, which is over: {acceptance.reason}"
    return f"accepted{f' until {acceptance.until}' if acceptance.until else ''}: {acceptance.reason}"


def _status(report: Report) -> Status:
    if report.verdict is Verdict.UNDECIDED:
        return Status.UNDECIDED
    return Status.PASSED if report.passed else Status.FAILED


def _place(finding: Finding) -> tuple[str, str | None, str | None]:
    return finding.code, finding.source_layer, finding.target_layer
