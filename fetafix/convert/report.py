"""The result records of a conversion: every route that was planned, what came of it, and the verdict."""

from __future__ import annotations

from typing import Any

import msgspec

from fetafix.report import SCHEMA_VERSION, ModelInfo, Output, Record, Report, Samples, Verdict


class StepReport(Record, frozen=True, kw_only=True):
    """One converter's run. status: "done", "failed", "crashed", "timeout", "unavailable" or "not run".

    reused: an earlier route had run it already. versions: of what it is made of, by distribution.
    """

    converter: str
    source: str
    target: str
    options: dict[str, Any] = {}
    status: str = "not run"
    seconds: float = 0.0
    message: str = ""
    reused: bool = False
    versions: dict[str, str] = {}
    notes: list[str] = []


class RouteReport(Record, frozen=True, kw_only=True):
    """One route. status: "passed", "rejected" (converted, but fails its check), "undecided", "not converted",
    "unavailable" or "not tried". top1, max_abs: of the primary output, as in `Agreement`. answers: the least share
    of samples whose answers agree, of all tasks that count in the verdict.
    """

    number: int
    steps: list[StepReport]
    status: str
    verdict: Verdict | None = None
    passed: bool | None = None
    reason: str = ""
    top1: float | None = None
    answers: float | None = None
    max_abs: float | None = None
    seconds: float = 0.0
    size: int | None = None


class ConversionReport(Record, frozen=True, kw_only=True):
    """Everything a conversion found out. chosen: number of the route whose model was kept, or came nearest.

    check: the full report on that route's model against the source, a repair's where it was repaired.
    """

    verdict: Verdict
    reason: str
    source: ModelInfo
    format: str
    routes: list[RouteReport] = []
    chosen: int | None = None
    check: Report | None = None
    output: Output | None = None
    rejected: str | None = None
    journal: str | None = None
    gate: str = "labels"
    passed: bool | None = None
    seed: int = 0
    samples: Samples = Samples()
    notes: list[str] = []
    timings: dict[str, float] = {}
    versions: dict[str, str] = {}
    command: str = "convert"
    schema_version: int = SCHEMA_VERSION

    @property
    def exit_code(self) -> int:
        """0 a model that passes was kept; 1 no route led to one; 3 undecided: nothing could be tried or judged."""
        if self.output is not None:
            return 0
        return 3 if self.verdict is Verdict.UNDECIDED else 1

    def as_report(self, target: str) -> Report:
        """What became of the kept or nearest model, as a report on it; `target` is where it was to go."""
        base = self.check or Report(
            verdict=self.verdict, reason=self.reason, seed=self.seed, samples=self.samples, source=self.source,
            target=ModelInfo(path=target, format=self.format), gate=self.gate)
        return msgspec.structs.replace(
            base, target=msgspec.structs.replace(base.target, path=target), verdict=self.verdict,
            reason=self.reason, passed=self.output is not None, output=self.output,
            notes=self.notes, timings=self.timings, command=self.command)


def to_json(report: ConversionReport) -> str:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def from_json(text: str | bytes) -> ConversionReport:
    """Read a report back. Raises msgspec.ValidationError where it does not fit the schema."""
    return msgspec.json.decode(text, type=ConversionReport)
