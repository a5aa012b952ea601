"""Run one route: its steps in order, each guarded, and what earlier routes have made used again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetafix.convert.converters import versions
from fetafix.convert.guard import Job, Result, run
from fetafix.convert.kinds import SUFFIXES
from fetafix.convert.report import StepReport
from fetafix.convert.routes import Route, Step
from fetafix.convert.samples import Files

_DONE = "done"


@dataclass
class Attempts:
    """Runs routes in one folder. Steps that begin alike are run once; `made` keeps what came of them.

    facts: what every job is told (arch, trust, threads). timeout: of a step, in seconds.
    """

    source: Path
    folder: Path
    samples: Files
    timeout: float
    facts: dict[str, Any] = field(default_factory=dict)
    made: dict[tuple[str, ...], tuple[Path, Result]] = field(default_factory=dict)

    def run(self, route: Route) -> tuple[Path | None, list[StepReport]]:
        """The route's model, None where a step failed, and how each step went."""
        path, reports = self.source, []
        for i, step in enumerate(route.steps):
            key = tuple(s.key for s in route.steps[: i + 1])
            reused = key in self.made
            if not reused:
                self.made[key] = self._step(step, path)
            path, result = self.made[key]
            reports.append(report(step, result, reused))
            if result.status != _DONE:
                return None, [*reports, *(report(s) for s in route.steps[i + 1 :])]
        return path, reports

    def _step(self, step: Step, source: Path) -> tuple[Path, Result]:
        folder = self.folder / f"step{len(self.made) + 1}"
        folder.mkdir()
        out = folder / f"model{SUFFIXES[step.target]}"
        job = Job(
            function=step.converter.function, source=str(source.absolute()), kind=step.source, out=str(out.absolute()),
            target=step.target, options=dict(step.options), precision=step.precision,
            example=str(self.samples.example), calibration=str(self.samples.calibration), **self.facts)
        return out, run(job, self.timeout)


def report(step: Step, result: Result | None = None, reused: bool = False) -> StepReport:
    """The record of a step that ran, or did not."""
    known = versions(step.converter.distributions)
    plain: dict[str, Any] = {"converter": step.converter.name, "source": step.source, "options": dict(step.options)}
    plain["target"] = f"{step.target}-{step.precision}" if step.precision else step.target
    if result is None:
        missing = step.converter.missing()
        status = "unavailable" if missing else "not run"
        return StepReport(**plain, status=status, message=missing, versions=known)
    return StepReport(
        **plain, status=result.status, seconds=0.0 if reused else result.seconds, message=result.message,
        reused=reused, versions={**known, **dict(result.versions)}, notes=list(result.notes))
