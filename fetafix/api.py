"""What the commands do, in plain reading order."""

from __future__ import annotations

import time
from pathlib import Path

from fetafix.errors import ModelError
from fetafix.judging import Judgement
from fetafix.options import Options
from fetafix.report import Report, Samples, Verdict
from fetafix.session import Session

__all__ = ["Options", "Session", "check"]


def check(source: str | Path, target: str | Path, options: Options | None = None) -> Report:
    """Whether two models give the same answers.

    Raises UsageError (InputDataError, ConfigError) for what the caller has to put right. A model that cannot be opened
    or run makes an undecided report.
    """
    start = time.perf_counter()
    session = Session(source, target, options)
    try:
        with session:
            judgement = session.judge("all", stop=True)
            report = _report(session, judgement)
    except ModelError as error:
        report = undecided(session, error)
    session.timings["total"] = time.perf_counter() - start
    return report


def _report(session: Session, judgement: Judgement) -> Report:
    ruling = judgement.ruling
    return Report(
        verdict=ruling.verdict, reason=ruling.reason, seed=session.options.seed,
        samples=session.samples(judgement.comparison.samples), source=session.source_info, target=session.target_info,
        agreement=judgement.agreement, gate=session.gate, passed=ruling.passed, notes=notes(session),
        timings=session.timings,
    )


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
    lines += [f"output {name!r}: {h.why}" for name, h in session.heads.items() if session.options.gate is None]
    for name, probe in session.probes.items():
        if probe["batch_dependence"] is not None:
            lines.append(f"the {name}'s answer to a sample depends on the other samples in the batch")
        if probe["run_variation"] is not None:
            lines.append(f"the {name} answers differently from run to run")
    lines += dict.fromkeys([*session.samplings.source.notes, *session.samplings.target.notes])
    if not session.samplings.heldout:
        lines.append("only one sample: nothing is held out")
    return lines
