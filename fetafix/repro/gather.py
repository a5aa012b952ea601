"""A reproduction for each finding of a localization."""

from __future__ import annotations

from collections.abc import Mapping

from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.findings import explained
from fetafix.localize import Located
from fetafix.repro import Reproduction
from fetafix.repro.case import Case, of_interface, of_segment
from fetafix.treat import Step
from fetafix.workbench import Workbench

_LARGE = "its graphs are too large to copy, or do not show it when run alone"
_NO_DIFFERENCE = "the outputs of both models agree: another one is superfluous"
_UNRELATED = "the models hold unrelated weights, of which no part is to blame"


def gather(located: Located, bench: Workbench, catalogue: Mapping[str, FaultType]) -> list[Reproduction]:
    """In the order of the findings of `located.findings`."""
    if located.treatment.unrelated:
        return [Reproduction(f, None, _UNRELATED) for f in located.findings(bench, catalogue)]
    made = []
    for finding, step, suspicion in explained(located.steps, catalogue, *bench.names):
        case = _case(step, suspicion)
        shows = case is not None and case.error > case.tolerance
        why = "" if shows else _LARGE if case is None else _NO_DIFFERENCE
        made.append(Reproduction(finding, case if shows else None, why))
    return made


def _case(step: Step, suspicion: Suspicion | None) -> Case | None:
    site = step.diagnosis.site
    try:
        return of_interface(site) if isinstance(site, Interface) else of_segment(site, _others(step, suspicion))
    except FetafixError:
        return None


def _others(step: Step, suspicion: Suspicion | None) -> list[Edit]:
    """The edits for the other faults that share the segment."""
    steps = step.remedy.steps if step.remedy is not None else ()
    return [e for s, group in steps if s is not suspicion for e in group] if len(steps) > 1 else []
