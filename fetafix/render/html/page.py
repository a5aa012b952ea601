"""The pages: of one report, and of all pairs of a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fetafix.gate.record import GateReport, Status
from fetafix.render.html import frame
from fetafix.render.html.names import flat
from fetafix.render.html.view import view
from fetafix.report import Report

_STATUS = {
    Status.PASSED: ("good", "✓", "passed"), Status.ACCEPTED: ("warn", "!", "accepted"),
    Status.FAILED: ("bad", "✕", "failed"), Status.UNDECIDED: ("warn", "?", "undecided"),
}  # fmt: skip

_OUTCOMES = (
    (Status.PASSED, "passes", "pass"), (Status.FAILED, "does not pass", "do not pass"),
    (Status.UNDECIDED, "could not be decided", "could not be decided"),
    (Status.ACCEPTED, "is let through, as what was found is accepted",
     "are let through, as what was found is accepted"),
)  # fmt: skip


def render(report: Report | GateReport, journal: Sequence[dict[str, Any]] = ()) -> str:
    """The page of a report, or of a gate's. journal: the entries of its journal (`fetafix.journal.read`), in order."""
    if isinstance(report, GateReport):
        return render_gate(report)
    body = frame.environment().get_template("report.html").render(view=view(report, journal))
    return frame.page(f"{flat(report.target.path)} against {flat(report.source.path)}", Markup(body))


def render_gate(report: GateReport) -> str:
    """The page of a gate: a summary of all pairs, then each with its own report."""
    shown = [(k, pair, _STATUS[pair.status], view(pair.report, prefix=f"pair-{k}-", level=3))
             for k, pair in enumerate(report.pairs, 1)]
    body = frame.environment().get_template("gate.html").render(
        gate=report, sentence=_sentence(report), badge=_badge(report), pairs=shown)
    return frame.page(f"Gate of {flat(report.config)}", Markup(body))


def _badge(report: GateReport) -> tuple[str, str, str]:
    return {0: ("good", "✓", "The gate passes"), 1: ("bad", "✕", "The gate fails")}.get(
        report.exit_code, ("warn", "?", "The gate is undecided"))


def _sentence(report: GateReport) -> str:
    """The outcome in one plain sentence."""
    total = len(report.pairs)
    if not total:
        return "There was no pair of models to compare."
    told = [(n, one if n == 1 else more) for status, one, more in _OUTCOMES if (n := report.count(status))]
    if len(told) == 1:
        return f"The converted model {told[0][1]}." if total == 1 else f"All {total} converted models {told[0][1]}."
    return f"Of {total} converted models, {', '.join(f'{n} {words}' for n, words in told)}."
