"""One mutant or one control through the repair, scored against the truth and on samples that the repair never saw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fetafix import api, odds
from fetafix.bench.faults import controls, mutants, truth
from fetafix.bench.faults.mutants import Barren, Mutant
from fetafix.bench.faults.nursery import Nursery, Outputs, error
from fetafix.bench.faults.rows import Named, Row
from fetafix.bench.zoo import Form
from fetafix.errors import FetafixError
from fetafix.faults import get
from fetafix.formats.onnx.write import write
from fetafix.report import Report, Verdict

CONTROL = "control"


@dataclass(frozen=True)
class Task:
    """What is to be measured: a fault type's code, or a control's name, on a network."""

    model: str
    code: str
    seed: int = 0
    control: bool = False

    def row(self, scale: str, **figures: Any) -> Row:
        """The row of this task, so far without figures."""
        category = CONTROL if self.control else get(self.code).category
        kind = figures.pop("kind", CONTROL if self.control else "mutant")
        return Row(model=self.model, scale=scale, code=self.code, category=category, seed=self.seed, kind=kind,
                   **figures)


def control_names(pairs: Sequence[tuple[Form, Form]]) -> list[str]:
    """All negative controls of a network: the pairs of its forms, both ways round, and the rewrites."""
    both = dict.fromkeys(ends for a, b in pairs for ends in ((a, b), (b, a)))
    return [*(f"{a} → {b}" for a, b in both), *controls.REWRITES]


def measure(nursery: Nursery, task: Task, folder: Path) -> Row:
    """The task's row. folder: for the mutant and its repaired copy."""
    return _control(nursery, task, folder) if task.control else _mutant(nursery, task, folder)


def _mutant(nursery: Nursery, task: Task, folder: Path) -> Row:
    scale = nursery.settings.scale
    mutant = mutants.make(nursery, task.code, task.seed, folder)
    if isinstance(mutant, Barren):
        return task.row(scale, kind="none", reason=mutant.reason)
    out = folder / f"{task.model}.repaired.onnx"
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    journal = folder / f"{task.model}.journal.jsonl"
    report = repair(nursery, nursery.path(mutant.source), mutant.path, out, journal)
    figures = {
        "source": mutant.source, "target": mutant.target, "gate": mutant.gate, "faults": list(mutant.faults),
        "layers": sorted(mutant.touched.layers), "seconds": time.perf_counter() - start, **_told(report),
        **_found(mutant, task.code, report), **_scores(nursery, mutant, out), "counts": odds.counted(journal),
    }
    row = task.row(scale, **figures, **_reach(nursery, mutant, out))
    return row if not row.missed else _with_reason(row, report)


def repair(nursery: Nursery, source: Path, target: Path, out: Path, journal: Path | None = None) -> Report:
    """What `fetafix repair` does with the samples that it gets; preprocessing is mended in the graph."""
    options = api.Options(data=str(nursery.data()), samples=nursery.settings.samples, seed=nursery.settings.zoo_seed,
                          threads=nursery.threads)
    return api.repair(source, target, options, api.RepairOptions(apply=True, output=out, bake=True, journal=journal))


def _told(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value, "findings": [Named(f.code, f.target_layer) for f in report.findings],
        "kept": [r.code for r in report.repairs if r.status == "kept"],
    }


def _found(mutant: Mutant, code: str, report: Report) -> dict[str, bool]:
    """The first-ranked finding counts."""
    first = report.findings[0] if report.findings else None
    return {
        "detected": bool(report.findings) or report.verdict not in (Verdict.EQUIVALENT, Verdict.UNDECIDED),
        "localized": first is not None and mutant.touched.right(first.target_layer),
        "diagnosed": first is not None and first.code == code,
    }


def _scores(nursery: Nursery, mutant: Mutant, out: Path) -> dict[str, Any]:
    """Agreement with the source on the hidden samples, before and after."""
    expected = nursery.hidden(nursery.answers(mutant.source))
    before = _against(nursery, mutant, mutant.path, mutant.answers, expected)
    after = _against(nursery, mutant, out, nursery.run(out), expected) if out.exists() else before
    sound = not after[1] and after[0] <= nursery.limit
    harmed = out.exists() and ((after[1] or 0.0) > (before[1] or 0.0) or after[0] > before[0] + nursery.limit)
    return {"error": (_finite(before[0]), _finite(after[0])), "labels": (before[1], after[1]), "limit": nursery.limit,
            "repaired": bool(out.exists() and sound), "worse": bool(harmed)}


def _against(nursery: Nursery, mutant: Mutant, path: Path, answers: Outputs | None, expected: Outputs
             ) -> tuple[float, float | None]:
    """(relative L2 error, share of labels that differ); where the interface is another, as `fetafix check` binds it."""
    if answers is not None and all(k in answers and answers[k].shape[1:] == v.shape[1:] for k, v in expected.items()):
        held = nursery.hidden(answers)
        return error(held, expected), nursery.differing(held, expected)
    count = nursery.settings.hidden
    options = api.Options(data=str(nursery.data(hidden=True)), samples=count)
    figures = api.check(nursery.path(mutant.source), path, options).agreement
    if figures is None or not figures.outputs:
        return float("inf"), None
    errors = [float("inf") if o.rel_l2 is None else o.rel_l2 for o in figures.outputs]
    return max(errors), None if figures.top1 is None else 1 - figures.top1


def _reach(nursery: Nursery, mutant: Mutant, out: Path) -> dict[str, int]:
    """How many nodes the repair touched, and how many of them the fault had not."""
    if not out.exists():
        return {}
    done, beyond = truth.beyond(mutant.touched, nursery.read(mutant.path), nursery.read(out))
    return {"edited": len(done), "beyond": len(beyond)}


def _with_reason(row: Row, report: Report) -> Row:
    told = {"detected": "not noticed",
            "localized": f"first finding at {_first(row)}, not at {', '.join(row.layers[:3])}",
            "diagnosed": f"first finding is {row.findings[0].code if row.findings else 'none'}",
            "repaired": f"after repair error {_number(row.error[1])} (limit {_number(row.limit)}), labels "
                        f"{_number(row.labels[1])}; {report.verdict.value}: {report.reason}",
            "unharmed": "worse after the repair"}
    return msgspec.structs.replace(row, reason="; ".join(told[aim] for aim in row.missed))


def _first(row: Row) -> str:
    return "nothing" if not row.findings else str(row.findings[0].layer or "the interface")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def _finite(value: float) -> float | None:
    return float(value) if value < float("inf") else None


def _control(nursery: Nursery, task: Task, folder: Path) -> Row:
    scale = nursery.settings.scale
    if task.code in controls.REWRITES:
        target = nursery.settings.pairs[0][1]
        source, path = nursery.path(target), folder / f"{task.model}.control.onnx"
        path.unlink(missing_ok=True)
        changes = controls.edits(task.code, nursery.graph(target))
        if not changes:
            return task.row(scale, kind="none", reason="no place for it")
        try:
            write(source, changes, path)
        except FetafixError as problem:
            return task.row(scale, kind="none", reason=f"cannot be written: {problem}")
        ends: tuple[str, str] = (target, target)
    else:
        first, _, second = task.code.partition(" → ")
        ends = (first, second)
        source, path = (nursery.made.forms[f] for f in ends)  # type: ignore[index]
    out = folder / f"{task.model}.repaired.onnx"
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    report = repair(nursery, source, path, out)
    told = _told(report)
    alarm = bool(told["findings"] or told["kept"]) or report.verdict is not Verdict.EQUIVALENT
    return task.row(scale, source=ends[0], target=ends[1], seconds=time.perf_counter() - start, detected=alarm,
                    reason=report.reason if alarm else "", **told)
