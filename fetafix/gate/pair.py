"""One pair of a gate, in a process of its own: check it, and look for the cause where it fails."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass

import msgspec

from fetafix import api
from fetafix.config import Accept
from fetafix.errors import EditError, ModelError
from fetafix.gate import accept
from fetafix.gate.record import PairResult, Status
from fetafix.options import Options
from fetafix.report import ModelInfo, Report, Samples, Verdict
from fetafix.session import Session


@dataclass(frozen=True, kw_only=True)
class Job:
    """A pair on its way to a process. today: what expiry dates are held against."""

    name: str
    source: str
    target: str
    options: Options
    accept: tuple[Accept, ...] = ()
    today: datetime.date


def examine(job: Job) -> PairResult:
    """The pair's result. Raises UsageError for what whoever wrote the configuration has to put right."""
    start = time.perf_counter()
    session = Session(job.source, job.target, job.options)
    report = api.within(session, "check", judged)
    seconds = round(time.perf_counter() - start, 3)
    return result(job, report, session.source_remembered, seconds)


def judged(session: Session) -> Report:
    """The report of `check`; of `localize` where the pair fails its gate, from the same runs.

    A pair that fails stays one that fails where nobody can look for the cause.
    """
    report = api.checked(session)
    if report.passed or report.verdict is Verdict.UNDECIDED:
        return report
    from fetafix.operation import localized

    session.annexes = ()  # localize searches beside the samples by itself
    try:
        return localized(session)
    except (ModelError, EditError) as error:
        note = f"the cause could not be looked for: {error}"
        return msgspec.structs.replace(report, notes=[*report.notes, note])


def result(job: Job, report: Report, cached: bool = False, seconds: float = 0.0) -> PairResult:
    """A pair's result from its report."""
    accepted, unused = accept.matched(report.findings, job.accept, job.today)
    if report.verdict is Verdict.UNDECIDED:
        status = Status.UNDECIDED
    elif report.passed:
        status = Status.PASSED
    else:
        status = Status.ACCEPTED if accept.all_accepted(report.findings, accepted) else Status.FAILED
    return PairResult(name=job.name, status=status, report=report, accepted=accepted, unused=unused, cached=cached,
                      seconds=seconds)


def lost(job: Job, error: Exception) -> PairResult:
    """The result of a pair of which nothing came back: undecided, with the reason."""
    source, target = (ModelInfo(path=p, format="") for p in (job.source, job.target))
    report = Report(
        verdict=Verdict.UNDECIDED, reason=str(error), seed=job.options.seed, samples=Samples(), source=source,
        target=target, gate=job.options.gate or "labels")
    return result(job, report)
