"""The JSON report; its keys are those that tools rely on (`fetafix.report`)."""

from __future__ import annotations

from fetafix.report import Report, to_json


def render(report: Report) -> str:
    """The report as indented JSON that ends with a newline."""
    return to_json(report).rstrip("\n") + "\n"
