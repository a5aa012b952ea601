"""Figures of the measured networks, drawn as those of a stress report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from fetafix.bench.storage.rows import Row
from fetafix.render import stress_plots
from fetafix.stress.record import StressReport

FOLDER, CURVES = "plots", ("none", "scale", "scale channel", "guard channel", "secded", "none channel")


def write(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """PNG and SVG by network and number format, in plots/<network>/<format>; their paths.

    Raises UsageError where matplotlib is not installed, OutputError where a file cannot be written.
    """
    held = [r for r in rows if r.subject is not None]
    made = []
    for model in dict.fromkeys(r.model for r in held):
        for dtype in dict.fromkeys(r.storage.split()[0] for r in held if r.model == model):
            report = _report([r for r in held if r.model == model and r.storage.split()[0] == dtype], model)
            made += stress_plots.write(report, folder / FOLDER / model / dtype)
        made += stress_plots.write(_report([r for r in held if r.model == model], model, bare=True),
                                   folder / FOLDER / model)
    return made


def _report(rows: Sequence[Row], model: str, bare: bool = False) -> StressReport:
    """The rows as a report. bare: curves and costs alone, of storages that differ much."""
    chosen = [r for r in rows if not bare or r.storage.partition(" ")[2] in CURVES]
    subjects = [r.subject for r in chosen if r.subject is not None]
    if bare:
        subjects = [msgspec.structs.replace(s, bits=[], layers=[]) for s in subjects]
    images = max((r.images for r in rows), default=0)
    return StressReport(verdict=model, seed=0, confidence=0.95, survival=0.95, max_drop=0.01, samples=images,
                        origin=model, labels="known", subjects=subjects)
