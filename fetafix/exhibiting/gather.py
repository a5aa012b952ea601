"""A report with its layers and neighbourhoods, where exhibits were asked for; the same report where they were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fetafix.exhibiting.attach import attached
from fetafix.exhibiting.layers import layers
from fetafix.exhibiting.places import Key, Place, key, places
from fetafix.exhibiting.sketches import neighbourhood
from fetafix.exhibits import Neighbourhood
from fetafix.faults import catalogue
from fetafix.localize import Located
from fetafix.repair import Trial
from fetafix.report import Finding, Report
from fetafix.workbench import Workbench


def located(report: Report, bench: Workbench, found: Located | None, trial: Trial | None = None) -> Report:
    """Layers and neighbourhoods. found: None where a plan was applied. trial: what came of applying repairs."""
    if not bench.session.options.exhibits:
        return report
    with bench.session.timed("exhibits"):
        where = places(found, bench, catalogue()) if found is not None else {}
        kept = [e for g in trial.kept for e in g.edits] if trial is not None and trial.copy is not None else None
        rows = layers(bench, found, where, report.findings, kept)
        return attached(report, layers=rows, neighbourhoods=_around(bench, where, report.findings))


def _around(bench: Workbench, where: Mapping[Key, Place], findings: Sequence[Finding]) -> list[Neighbourhood]:
    shapes = bench.align(bench.target).target.shapes if where else {}
    return [neighbourhood(where[k], bench.names, shapes) if (k := key(f)) in where else Neighbourhood()
            for f in findings]
