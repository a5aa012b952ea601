"""Every kind of answer from end to end: a fault that its gate catches and repair mends, a drift that it tolerates."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.api import Options, check, repair
from fetafix.options import RepairOptions
from fetafix.report import Report, TaskAgreement, Verdict
from tests.task_models import NETS, images, write

DRIFT = {"segmentation": 2e-3, "detection": 2e-3, "tokens": 1e-4, "ids": 1e-6, "embedding": 2e-3, "regression": 2e-3}
TASK = {**{n: n for n in DRIFT}, "ids": "tokens"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    images(folder / "x.npy")
    for name in NETS:
        write(folder / f"{name}.onnx", name)
        write(folder / f"{name}-fault.onnx", name, relu=False)
        write(folder / f"{name}-drift.onnx", name, drift=DRIFT.get(name, 2e-3))
    return folder


def options(place: Path, **more: object) -> Options:
    return Options(**{"data": place / "x.npy", "samples": 40, "threads": 1, "search": "off", **more})  # type: ignore[arg-type]


def told(report: Report, after: bool = False) -> TaskAgreement:
    figures = report.after if after else report.agreement
    assert figures is not None and len(figures.tasks) == 1
    return figures.tasks[0]


@pytest.mark.parametrize("name", ["detection", "ids"])
def test_a_model_agrees_with_itself(place: Path, name: str) -> None:
    report = check(place / f"{name}.onnx", place / f"{name}.onnx", options(place))
    assert (report.verdict, report.gate, report.exit_code) == (Verdict.EQUIVALENT, "task", 0), report.reason
    task = told(report)
    assert (task.task, task.weighs, task.share, task.likeness) == (TASK[name], True, 1.0, pytest.approx(1.0))
    assert task.bounds is not None and task.bounds[0] == pytest.approx(0.9119, abs=1e-3)
    assert any(f"judged as {TASK[name]}: " in n for n in report.notes)
    assert report.agreement is not None and report.agreement.top1 is None


@pytest.mark.parametrize("name", sorted(set(DRIFT) - {"ids"}))
def test_a_drift_passes_the_task(place: Path, name: str) -> None:
    report = check(place / f"{name}.onnx", place / f"{name}-drift.onnx", options(place))
    assert (report.verdict, report.gate, report.exit_code) == (Verdict.DRIFTING, "task", 0), report.reason
    assert told(report).share == 1.0 and "all 40 answers agree" in report.reason


def test_a_drift_fails_the_numbers(place: Path) -> None:
    pair = place / "embedding.onnx", place / "embedding-drift.onnx"
    strict = check(*pair, options(place, gate="numeric"))
    assert (strict.verdict, strict.gate, strict.exit_code) == (Verdict.DRIFTING, "numeric", 1), strict.reason
    asked = check(*pair, options(place, task="numeric"))
    assert (asked.verdict, asked.gate, asked.exit_code) == (Verdict.DIVERGENT, "numeric", 1), asked.reason


@pytest.mark.parametrize("name", DRIFT)
def test_a_fault_is_caught_early_and_mended(place: Path, name: str, tmp_path: Path) -> None:
    pair = place / f"{name}.onnx", place / f"{name}-fault.onnx"
    found = check(*pair, options(place))
    assert (found.verdict, found.gate, found.exit_code) == (Verdict.DIVERGENT, "task", 1), found.reason
    assert "answers differ" in found.reason and told(found).mismatches
    assert found.samples.stopped_early and told(found).samples < 40
    mended = repair(*pair, options(place), RepairOptions(apply=True, output=tmp_path / "out.onnx"))
    assert (mended.verdict, mended.exit_code) == (Verdict.REPAIRED, 0), mended.reason
    before, after = told(mended), told(mended, after=True)
    assert before.share is not None and before.share < 1.0 == after.share
    assert (tmp_path / "out.onnx").exists() and mended.passed


def test_limits_and_shares_decide(place: Path) -> None:
    pair = place / "segmentation.onnx", write(place / "further.onnx", "segmentation", drift=0.02)
    assert check(*pair, options(place)).exit_code == 0
    strict = check(*pair, options(place, task="mask=segmentation,miou=1,pixels=1"))
    assert (strict.verdict, strict.exit_code) == (Verdict.DIVERGENT, 1), strict.reason
    share = told(strict).share
    assert share is not None and share < 1.0
    lax = check(*pair, options(place, task="mask=segmentation,miou=1,pixels=1", max_mismatch=0.95))
    assert (lax.verdict, lax.exit_code) == (Verdict.DRIFTING, 0), lax.reason


def test_each_output_has_a_comparator_of_its_own(place: Path) -> None:
    report = check(place / "several.onnx", place / "several-drift.onnx", options(place))
    assert (report.verdict, report.gate, report.exit_code) == (Verdict.DRIFTING, "task", 0), report.reason
    assert report.agreement is not None
    assert {t.outputs[0]: t.task for t in report.agreement.tasks} == {"mask": "segmentation", "y": "embedding"}
    mixed = check(place / "several.onnx", place / "several-drift.onnx", options(place, task="y=numeric"))
    assert (mixed.verdict, mixed.gate, mixed.exit_code) == (Verdict.DIVERGENT, "task", 1), mixed.reason
    assert "answers agree" in mixed.reason and "'y'" in mixed.reason
