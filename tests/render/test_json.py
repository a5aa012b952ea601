"""The JSON report carries the keys that tools rely on, and reads back as the same report."""

from __future__ import annotations

import json

import pytest

from fetafix.render.json import render
from fetafix.report import Report, from_json
from tests.render.reports import REPORTS

KEYS = {
    "schema_version", "verdict", "reason", "seed", "samples", "source", "target", "agreement", "after", "findings",
    "repairs", "output", "journal", "timings",
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_keys_and_round_trip(report: Report) -> None:
    text = render(report)
    data = json.loads(text)
    assert data.keys() >= KEYS and data["schema_version"] == 1
    assert data["samples"].keys() >= {"search", "heldout", "origin"}
    assert data["source"].keys() >= {"path", "format", "sha256", "inputs", "outputs"}
    assert from_json(text) == report


def test_finding_and_repair_keys() -> None:
    data = json.loads(render(REPORTS["repair"]))
    assert data["findings"][0].keys() >= {
        "code", "category", "title", "source_layer", "target_layer", "evidence", "local_error", "confidence",
        "explanation"}
    assert data["repairs"][0].keys() >= {"code", "target_layer", "edits", "status", "before", "after", "why"}
    assert data["agreement"].keys() >= {
        "top1", "top1_bounds", "top5", "kendall_tau", "max_abs", "mean_abs", "cosine", "noise_floor"}
