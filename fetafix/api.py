"""What the commands do, in plain reading order."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fetafix import depth
from fetafix.errors import ModelError
from fetafix.judge.tasks.base import Assignment
from fetafix.judging import Judgement
from fetafix.options import Options, RepairOptions
from fetafix.quantisation import named_float
from fetafix.report import Report, Samples, Verdict
from fetafix.session import Session

if TYPE_CHECKING:
    from fetafix.stress.options import StressOptions
    from fetafix.stress.record import StressReport

__all__ = ["Options", "RepairOptions", "Session", "check", "localize", "repair", "stress"]


def check(source: str | Path, target: str | Path, options: Options | None = None) -> Report:
    """Whether two models give the same answers.

    Raises UsageError (InputDataError, ConfigError) for what the caller has to put right. A model that cannot be opened
    or run makes an undecided report.
    """
    return within(Session(source, target, options), "check", checked)


def localize(
    source: str | Path, target: str | Path, options: Options | None = None, reproductions: str | Path | None = None
) -> Report:
    """Which layers introduce the difference between two models, and what kind of fault each is.

    reproductions: an empty or new folder, which minimal reproductions of the findings are written to. Raises as `check`
    does, and OutputError where they cannot be written. Where a model cannot be looked into, the report says so and has
    no findings.
    """
    from fetafix import outputs
    from fetafix.operation import localized

    if reproductions is not None:
        from fetafix import repro

        repro.free(reproductions)
        outputs.keep_apart({"reproductions": reproductions}, {"source": source, "target": target})
    session = Session(source, target, options)
    return within(session, "localize", lambda session: localized(session, reproductions))


def repair(
    source: str | Path, target: str | Path, options: Options | None = None, repairing: RepairOptions | None = None
) -> Report:
    """Mend a copy of the target and prove it on samples that the repair was not chosen on.

    Raises as `check` does, and OutputError where a result cannot be written.
    """
    from fetafix import outputs, run_folder
    from fetafix.operation import repaired

    options, wanted = run_folder.prepared(source, target, options or Options(), repairing or RepairOptions())
    outputs.check(source, target, options, wanted)
    report = within(Session(source, target, options), "repair", lambda session: repaired(session, wanted))
    return report if wanted.save_run is None else run_folder.keep(report, options, wanted)


def stress(models: Sequence[str | Path], options: StressOptions | None = None) -> StressReport:
    """How many bit flips in storage model files survive; `fetafix.stress.options` tells what may be asked.

    Raises UsageError or InputDataError for what the caller has to put right, ModelError where a model does not run
    without a fault.
    """
    from fetafix.stress.options import StressOptions
    from fetafix.stress.run import stress as measured

    return measured(models, options or StressOptions())


def within(session: Session, command: str, work: Callable[[Session], Report]) -> Report:
    """Open a session, do some work in it, close it; what a model's failure makes of it is an undecided report."""
    start = time.perf_counter()
    try:
        with session:
            report = work(session)
    except ModelError as error:
        report = undecided(session, error, command)
        if command == "repair":
            from fetafix.restore import hint

            report = msgspec.structs.replace(report, notes=[*report.notes, *hint(session.paths[1])])
    if session.options.accept and report.findings:
        from fetafix.gate import accept

        known = accept.notes(report.findings, session.options.accept, datetime.date.today())
        report = msgspec.structs.replace(report, notes=[*report.notes, *known])
    if report.findings:
        from fetafix.advice import advised

        report = advised(report)
    session.timings["total"] = time.perf_counter() - start
    return report


def checked(session: Session) -> Report:
    """The report of `check`, from an open session."""
    from fetafix import evidence
    from fetafix.exhibiting import differing

    judgement = depth.judged(session, stop=True)
    report = evidence.extended(session, report_on(session, judgement), judgement)
    report = msgspec.structs.replace(report, notes=[*report.notes, *_coded(session, report.verdict)])
    return differing.judged(report, session, judgement, "all")


def report_on(session: Session, judgement: Judgement) -> Report:
    """The report of `check`: a session's pair as judged."""
    ruling = judgement.ruling
    return Report(
        verdict=ruling.verdict, reason=ruling.reason, seed=session.options.seed,
        samples=session.samples(judgement.comparison.samples), source=session.source_info, target=session.target_info,
        agreement=judgement.agreement, gate=session.gate, passed=ruling.passed, notes=notes(session),
        timings=session.timings,
    )


def _coded(session: Session, verdict: Verdict) -> list[str]:
    """For a quantised model that does not agree: who tells quantisation from faults."""
    if verdict not in (Verdict.DRIFTING, Verdict.DIVERGENT):
        return []
    whose = [name for name, info in (("source", session.source_info), ("target", session.target_info))
             if info.details.get("quantised")]
    are = "are" if len(whose) > 1 else "is"
    lines = [f"the {' and the '.join(whose)} {are} quantised: fetafix localize tells what rounding explains from "
             "faults"]
    name, dtypes = named_float(session.target_info.path), session.target_info.details.get("dtypes")
    counts = dtypes.items() if name and isinstance(dtypes, dict) else ()
    held = [f"{n} {t}" for t, n in counts if t in ("int8", "uint8")]
    lines = lines if whose else []
    return [*lines, *(f"the target's name says {name}, but it holds {h} tensors of weights" for h in held)]


def _meanings(session: Session) -> list[str]:
    """Who judges which outputs; where some are known, also which are not."""
    known = {o for t in session.tasks for o in t.outputs}
    others = [b.source for b in session.bindings.outputs if b.source not in known]
    rest = [f"output {o!r} judged by its numbers: nothing tells for sure what they mean" for o in others]
    return [*map(_judged, session.tasks), *(rest if known else ())]


def _judged(task: Assignment) -> str:
    """Which comparator judges outputs, and why; of a guess, that it decides nothing by itself."""
    names = ", ".join(map(repr, task.outputs))
    outputs = f"output {names}" if len(task.outputs) == 1 else f"outputs {names}"
    if task.claim.sure == "maybe":
        return f"{outputs} may be {task.comparator.name}: {task.claim.why}; --task {task.comparator.name} makes sure"
    asked = ", as asked" if task.claim.sure == "asked" else ""
    return f"{outputs} judged as {task.comparator.name}{asked}: {task.claim.why}"


def undecided(session: Session, error: ModelError, command: str = "check") -> Report:
    """The report on a pair of which one model could not be opened or run."""
    return Report(
        verdict=Verdict.UNDECIDED, reason=str(error), seed=session.options.seed, samples=Samples(),
        source=session.source_info, target=session.target_info, gate=session.options.gate or "labels",
        timings=session.timings, command=command,
    )


def notes(session: Session) -> list[str]:
    """What a reader should know about how the figures came about."""
    b = session.bindings
    lines = [f"output {x.target!r} was bound to the source's {x.source!r} {x.how}" for x in b.outputs
             if x.how not in ("by name", "by shape") and len(b.outputs) > 1]
    lines += [f"input {x.target!r} was bound to the source's {x.source!r} {x.how}" for x in b.inputs
              if x.how == "by order" and len(b.inputs) > 1]
    lines += [f"the target has no use for the source's input {name!r}" for name in b.unused]
    lines += [f"the target has an output {name!r} that the source has not" for name in b.extra]
    lines += [f"the values of {s!r} are found in the target's {other!r}, not in its {t!r}" for s, t, other in b.crossed]
    lines += _meanings(session) if session.options.gate != "numeric" else []
    for name, probe in session.probes.items():
        if probe["batch_dependence"] is not None:
            lines.append(f"the {name}'s answer to a sample depends on the other samples in the batch")
        if probe["run_variation"] is not None:
            lines.append(f"the {name} answers differently from run to run")
    lines += dict.fromkeys([*session.remarks, *session.samplings.source.notes, *session.samplings.target.notes])
    if not session.samplings.heldout:
        lines.append("only one sample: nothing is held out")
    return lines
