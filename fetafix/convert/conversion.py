"""From a source to a model that passes: plan routes, try them in order, check each, keep only what passes.

plan → open the source → for each route: convert (guarded) → check → passed? keep it → [repair the best] → report
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from fetafix import api
from fetafix.convert import places
from fetafix.convert.attempt import Attempts
from fetafix.convert.attempt import report as step_report
from fetafix.convert.kinds import Target, kind_of, target_of
from fetafix.convert.options import ConvertOptions
from fetafix.convert.report import ConversionReport, RouteReport
from fetafix.convert.routes import Route, plan
from fetafix.convert.samples import write
from fetafix.errors import FetafixError, ModelError, UsageError
from fetafix.formats import sha256
from fetafix.formats.base import OpenOptions
from fetafix.journal import Journal, versions
from fetafix.options import Options, RepairOptions
from fetafix.parallel import ModelProcess, threads_each
from fetafix.report import ModelInfo, Output, Report, Verdict


def convert(
    source: str | Path, out: str | Path, options: Options | None = None, converting: ConvertOptions | None = None
) -> ConversionReport:
    """Convert `source` to a model at `out`, which is there afterwards only if it passes its check against the source.

    Raises UsageError (ConfigError, InputDataError) and OutputError for what the caller has to put right. A source that
    cannot be opened makes an undecided report; a converter that fails is a result about its route.
    """
    options, wanted, start = options or Options(), converting or ConvertOptions(), time.perf_counter()
    target = target_of(out, wanted.to, wanted.quantise)
    places.check(source, out, options, wanted.journal, wanted.force)
    blank = ConversionReport(
        verdict=Verdict.UNDECIDED, reason="", source=ModelInfo(path=str(source), format=""), format=target.name,
        seed=options.seed, gate=options.gate or "labels", versions=versions())
    try:
        routes = _planned(source, target, wanted)
        with ExitStack() as stack:
            report = _Conversion(Path(source), Path(out), options, wanted, stack).run(routes, blank)
    except ModelError as error:
        report = msgspec.structs.replace(blank, reason=str(error))
    return msgspec.structs.replace(report, timings={**report.timings, "total": time.perf_counter() - start})


def _planned(source: str | Path, target: Target, wanted: ConvertOptions) -> tuple[Route, ...]:
    kind = kind_of(source)
    if kind == target.kind:
        raise UsageError(f"{source} is {kind} already; {target.name} is no other format"
                         + (": give the float model that it comes from" if target.precision else ""))
    routes = plan(kind, target, wanted.opset, wanted.exporter)
    if not routes:
        raise UsageError(f"no chain of converters leads from {kind} to {target.name} with these options")
    return routes


@dataclass
class _Made:
    """A route that led to a model: its record, the file, and the report of its check (None where that failed)."""

    record: RouteReport
    path: Path
    check: Report | None


class _Conversion:
    """One conversion, from the planned routes to the report."""

    def __init__(
        self, source: Path, out: Path, options: Options, wanted: ConvertOptions, stack: ExitStack
    ) -> None:
        self.source, self.out, self.options, self.wanted = source, out, options, wanted
        self.journal = stack.enter_context(Journal(wanted.journal, command="convert"))
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetafix-convert-")))

    def run(self, routes: tuple[Route, ...], blank: ConversionReport) -> ConversionReport:
        """Open the source, try routes, keep what passes."""
        info = self._open()
        self.journal.write("convert", source=info, to=blank.format, out=str(self.out), seed=self.options.seed)
        samples = write(info, self.options, self.wanted.calibration, self.folder)
        facts = {"arch": self.options.source_arch, "trust": self.options.trust, "threads": self.options.threads or 0}
        attempts = Attempts(self.source, self.folder, samples, self.wanted.timeout, facts)
        records, made = self._try(routes, attempts)
        report = msgspec.structs.replace(
            blank, source=info, routes=records, journal=str(self.wanted.journal) if self.wanted.journal else None)
        best = max(made, key=_rank, default=None)
        if best is None:
            return self._nothing(report)
        if not _passed(best) and self.wanted.repair and best.check is not None:
            best = self._repaired(best)
        return self._kept(report, best)

    def _open(self) -> ModelInfo:
        """The source as its own runtime knows it: nothing is converted that `check` would not open."""
        threads = threads_each() if self.options.threads is None else self.options.threads
        opening = OpenOptions(trust=self.options.trust, arch=self.options.source_arch, threads=threads)
        with ModelProcess(self.source, opening) as process:
            return process.info()

    def _try(self, routes: tuple[Route, ...], attempts: Attempts) -> tuple[list[RouteReport], list[_Made]]:
        records: list[RouteReport] = []
        made: list[_Made] = []
        tried, done = 0, False
        for number, route in enumerate(routes, 1):
            missing = any(s.converter.missing() for s in route.steps)
            if missing or done or tried >= self.wanted.routes:
                records.append(_untried(number, route, missing))
                continue
            tried += 1
            self.options.progress(f"route {number}: {route.describe()}", 0, None)
            result = self._attempt(number, route, attempts)
            records.append(result.record if isinstance(result, _Made) else result)
            self.journal.write("route", route=records[-1])
            if isinstance(result, _Made):
                made.append(result)
                done = _passed(result) and not self.wanted.compare
        return records, made

    def _attempt(self, number: int, route: Route, attempts: Attempts) -> _Made | RouteReport:
        """Convert along a route, and check what came of it."""
        path, steps = attempts.run(route)
        seconds = sum(s.seconds for s in steps)
        if path is None:
            failed = next(s for s in steps if s.status not in ("done", "not run"))
            reason = f"{failed.converter}, {failed.status}: {failed.message}"
            return RouteReport(number=number, steps=steps, status="not converted", reason=reason, seconds=seconds)
        check = api.check(self.source, path, replace(self.options, target_arch=None))
        return _Made(_judged(number, steps, check, seconds, _size(path)), path, check)

    def _repaired(self, best: _Made) -> _Made:
        """The best model with repairs, where they help; a repair that fails leaves it as it was."""
        out = self.folder / f"repaired{best.path.suffix}"
        repairing = RepairOptions(output=out, apply=True, journal=self.wanted.journal)
        try:
            report = api.repair(self.source, best.path, self.options, repairing)
        except FetafixError as error:
            self.journal.write("repair failed", error=str(error))
            return best
        if report.output is None or not out.exists():
            return _Made(best.record, best.path, report)
        record = msgspec.structs.replace(best.record, reason=f"{best.record.reason}; {report.reason}")
        return _Made(record, out, report)

    def _kept(self, report: ConversionReport, best: _Made) -> ConversionReport:
        check, record = best.check, best.record
        assert check is not None
        passed = bool(check.passed)
        report = msgspec.structs.replace(
            report, verdict=check.verdict, reason=_ending(record, check, passed), chosen=record.number, check=check,
            gate=check.gate, passed=check.passed, samples=check.samples, notes=list(check.notes))
        if passed:
            output = self._place(best.path, self.out)
            self.journal.write("written", output=output, route=record.number)
            return msgspec.structs.replace(report, output=output)
        if self.wanted.keep_rejected:
            output = self._place(best.path, places.rejected(self.out))
            self.journal.write("rejected", output=output, route=record.number)
            return msgspec.structs.replace(report, rejected=output.path)
        return report

    def _place(self, made: Path, out: Path) -> Output:
        places.move(made, out)
        return Output(path=str(out), sha256=sha256(out))

    def _nothing(self, report: ConversionReport) -> ConversionReport:
        """No route led to a model: undecided where none could be tried at all, else a failure."""
        tried = [r for r in report.routes if r.status == "not converted"]
        if tried:
            count = f"{len(tried)} route" + ("s were" if len(tried) > 1 else " was")
            reason = f"{count} tried, and none led to a model; the first: {tried[0].reason}"
            return msgspec.structs.replace(report, verdict=Verdict.DIVERGENT, passed=False, reason=reason)
        missing = next((s.message for r in report.routes for s in r.steps if s.status == "unavailable"), "")
        return msgspec.structs.replace(report, reason=f"no route can be tried here: {missing}")


def _passed(made: _Made) -> bool:
    return made.check is not None and bool(made.check.passed)


def _rank(made: _Made) -> tuple[bool, bool, float, float, int]:
    """Passing before failing, judged before undecided, then by answers, by numbers, by the order of the routes."""
    r = made.record
    judged = r.verdict is not None and r.verdict is not Verdict.UNDECIDED
    nearness = -r.max_abs if r.max_abs is not None else float("-inf")
    return _passed(made), judged, r.answers if r.answers is not None else -1.0, nearness, -r.number


def _judged(number: int, steps: list[Any], check: Report, seconds: float, size: int) -> RouteReport:
    status = "undecided" if check.verdict is Verdict.UNDECIDED else "passed" if check.passed else "rejected"
    figures = check.agreement
    return RouteReport(
        number=number, steps=steps, status=status, verdict=check.verdict, passed=check.passed, reason=check.reason,
        top1=figures.top1 if figures else None, max_abs=figures.max_abs if figures else None, answers=_answers(check),
        seconds=seconds, size=size)


def _answers(check: Report) -> float | None:
    told = check.agreement.tasks if check.agreement is not None else []
    return min((t.share for t in told if t.weighs and t.share is not None), default=None)


def _untried(number: int, route: Route, missing: bool) -> RouteReport:
    steps = [step_report(s) for s in route.steps]
    reason = next((s.message for s in steps if s.message), "")
    return RouteReport(number=number, steps=steps, status="unavailable" if missing else "not tried", reason=reason)


def _ending(record: RouteReport, check: Report, passed: bool) -> str:
    converters = ", then ".join(s.converter for s in record.steps)
    if passed:
        return f"converted by {converters}: {check.reason}"
    return f"no route leads to a model that passes; the best one, by {converters}: {check.reason}"


def _size(path: Path) -> int:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files)
