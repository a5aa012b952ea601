"""The approved entries of a plan, written and proved by `repair`, with the options that the plan was made with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fetafix import api, planning
from fetafix import plan as plans
from fetafix.errors import FetafixError, UsageError
from fetafix.options import Progress, RepairOptions
from fetafix.planning import Held
from fetafix.render import plain
from fetafix.report import Report
from fetafix.review.decisions import Desk
from fetafix.review.run import Run


class Stopped(FetafixError):
    """Applying was ended before it was done; nothing was written."""


def approvers(plan: plans.Plan) -> str:
    """Who approved what is to be applied."""
    return ", ".join(dict.fromkeys(e.decided_by for e in plan.entries if e.approved and e.decided_by))


def ready(run: Run, plan: plans.Plan, trust: bool) -> str:
    """Why a plan cannot be applied, "" where it can."""
    if run.missing:
        return run.missing
    if not any(e.approved for e in plan.entries):
        return "Nothing is approved so far."
    if (code := _code(run, plan)) and not trust:
        return (f"Applying this plan runs code: {code}. A plan cannot ask for that by itself; if you trust it and the "
                "models, run fetafix review with --trust.")
    return ""


def _code(run: Run, plan: plans.Plan) -> str:
    """What code applying a plan would run, "" where it runs none."""
    told = plan.options
    named = [f"{told[k]} (--{k.replace('_', '-')})" for k in ("source_arch", "target_arch") if told.get(k)]
    named += [f"{run.data} (--data)"] if _loader(run) else []
    named += ["whatever the model files hold (--trust)"] if told.get("trust") else []
    return ", ".join(named)


def apply(run: Run, desk: Desk, held: Held, by: str, trust: bool, progress: Progress) -> Report:
    """Write the repaired model with the approved entries, prove it, and say so in the journal.

    by: who asks for it. Raises UsageError, OutputError as `api.repair` does, and UsageError where the plan cannot be
    applied; also then the journal tells.
    """
    try:
        if why := ready(run, held.plan, trust):
            raise UsageError(why)
        assert run.source is not None and run.target is not None
        asked = bool(held.plan.options.get("trust")) or _loader(run)  # trust given for an --arch alone goes no further
        options = replace(planning.options_of(held.plan, run.data, trust and asked), progress=progress)
        wanted = RepairOptions(
            apply=True, output=run.output, plan=held, bake=bool(held.plan.options.get("bake")),
            approved_by=approvers(held.plan), journal=run.journal,
        )  # fmt: skip
        report = api.repair(run.source, run.target, options, wanted)
    except FetafixError as error:
        desk.note("not applied", by=by, why=str(error), plan=str(run.plan))
        raise
    entries = [e.id for e in held.plan.entries if e.approved]
    desk.note("applied", by=by, entries=entries, approved_by=approvers(held.plan), verdict=report.verdict,
              passed=report.passed, why=report.reason, output=report.output, plan=str(run.plan))  # fmt: skip
    return report


def _loader(run: Run) -> bool:
    """Whether the samples come from a loader."""
    return run.data is not None and not Path(run.data).exists()


@dataclass
class Job:
    """Applying in the background, one at a time. `state` may be asked for at any moment."""

    status: str = "idle"  # "running", "done", "failed"
    stage: str = ""
    done: int = 0
    total: int | None = None
    by: str = ""
    report: Report | None = None
    error: str = ""
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def start(self, by: str, work: Callable[[Progress], Report]) -> bool:
        """Begin; False where the last one is not done yet."""
        with self._mutex:
            if self.status == "running":
                return False
            self.status, self.stage, self.done, self.total = "running", "starting", 0, None
            self.by, self.report, self.error = by, None, ""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(work,), name="fetafix-apply", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """End it at the next step, and wait until it has cleaned up."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def state(self) -> dict[str, Any]:
        """Everything to be shown, as plain data."""
        with self._mutex:
            told: dict[str, Any] = {"status": self.status, "stage": self.stage, "done": self.done, "total": self.total,
                                    "by": self.by, "error": self.error}
            return {**told, "result": None if self.report is None else result(self.report)}

    def _run(self, work: Callable[[Progress], Report]) -> None:
        try:
            report, error = work(self._progress), ""
        except FetafixError as failure:
            report, error = None, str(failure)
        except Exception as failure:  # a bug must not look like work that goes on for ever
            report, error = None, f"unexpected {type(failure).__name__}: {failure}; this is a bug in fetafix"
        with self._mutex:
            self.report, self.error = report, error
            self.status = "done" if report is not None else "failed"

    def _progress(self, stage: str, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise Stopped("stopped before it was done; nothing was written")
        with self._mutex:
            self.stage, self.done, self.total = stage, done, total


def result(report: Report) -> dict[str, Any]:
    """What came of applying, for people."""
    written = str(Path(report.output.path).absolute()) if report.output else ""
    sentence = plain.sentence(report) if report.after is not None else ""
    left = [{"id": r.id, "why": r.why} for r in report.repairs if r.status != "kept"]
    kept = [r.id for r in report.repairs if r.status == "kept"]
    return {"verdict": str(report.verdict), "passed": report.passed, "sentence": sentence, "reason": report.reason,
            "output": written, "kept": kept, "left": left, "notes": report.notes}
