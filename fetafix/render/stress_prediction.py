"""The prediction beside the measurement, as text."""

from __future__ import annotations

from fetafix.stress.record import Predicted, StressReport, Subject


def lines(report: StressReport) -> list[str]:
    """A table for each subject that has predictions; [] where none has."""
    return [line for s in report.subjects if s.predictions for line in _of(s)]


def _of(subject: Subject) -> list[str]:
    head = f"  {'rate':>8}  {'RMS error':>10} {'seen':>10}  {'wrecked':>10} {'seen':>10}  {'none wrecked':>12}"
    rows = [_row(p) for p in subject.predictions]
    return [f"prediction beside measurement: {subject.name}", head, *rows]


def _row(p: Predicted) -> str:
    flag = f"  DISAGREES: {p.why}" if p.why else ""
    return (f"  {p.ber:>8.3g}  {p.rms:>10.3g} {p.seen_rms:>10.3g}  {p.wrecked:>10.3g} {p.seen_wrecked:>10.3g}  "
            f"{100 * p.whole:>11.3g}%{flag}")
