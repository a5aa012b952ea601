"""A deep network's rounding, seen from inside, decides whether small differences drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix import depth
from fetafix.api import Options, check, localize
from fetafix.graph.arithmetic import rounded_otherwise
from fetafix.graph.evaluate import Evaluator
from fetafix.report import Verdict
from tests.faults.support import Builder
from tests.small_models import node, save

LAYERS, WIDTH, GAIN = 40, 24, 1.7


def _deep(path: Path, order: np.ndarray[Any, Any] | None = None, nudge: float = 0.0) -> Path:
    """A layer that forgets small changes of its input, and many that amplify those of their own.

    order: hidden units renumbered, which sums in another order and means the same. nudge: a change of one layer.
    """
    rng = np.random.default_rng(0)
    nodes, tensors, x = [], {}, "x"
    for k in range(LAYERS):
        w = rng.normal(0, (GAIN if k else 300.0) / np.sqrt(WIDTH), (WIDTH, WIDTH)).astype(np.float32)
        if order is not None:
            w = w[order] if k else w
            w = w[:, order] if k < LAYERS - 1 else w
        tensors[f"w{k}"] = w * np.float32(1 + (nudge if k == LAYERS // 2 else 0.0))
        nodes += [node("MatMul", [x, f"w{k}"], [f"m{k}"]), node("Tanh", [f"m{k}"], [f"t{k}"])]
        x = f"t{k}"
    nodes[-1].output[0] = "values"
    return save(path, nodes, {"x": ["N", WIDTH]}, {"values": ["N", WIDTH]}, tensors)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("deep")
    order = np.random.default_rng(1).permutation(WIDTH)
    np.save(folder / "x.npy", np.random.default_rng(2).normal(0, 1, (40, WIDTH)).astype(np.float32))
    return {"source": _deep(folder / "source.onnx"), "renumbered": _deep(folder / "renumbered.onnx", order),
            "nudged": _deep(folder / "nudged.onnx", nudge=1e-4), "data": folder / "x.npy"}


def test_what_rounding_inside_explains_is_no_drift(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(data=str(models["data"]), samples=40, gate="numeric")
    for run in (check, localize):
        report = run(models["source"], models["renumbered"], options)
        assert report.verdict is Verdict.EQUIVALENT, report.reason
    monkeypatch.setattr(depth, "_close", lambda session, found: False)
    assert check(models["source"], models["renumbered"], options).verdict is Verdict.DRIFTING


def test_what_it_does_not_explain_still_differs(models: dict[str, Path]) -> None:
    report = localize(models["source"], models["nudged"], Options(data=str(models["data"]), gate="numeric"))
    assert report.verdict is Verdict.DRIFTING, report.reason
    assert [f.target_layer for f in report.findings] == [f"m{LAYERS // 2}"]


def test_every_float_that_is_rounded_moves_by_a_unit() -> None:
    """Integers, whole numbers and what only changes places stay."""
    b = Builder()
    x = b.input((3, 5))
    y = b.op("Mul", x, np.array(2.5, np.float32))
    graph = b.build(y, b.op("Shape", y), b.op("Transpose", y, perm=[1, 0]), b.op("Mul", x, np.array(3.0, np.float32)))
    feeds = {x: np.ones((3, 5), np.float32)}
    moved = rounded_otherwise(graph, feeds, Evaluator().run, 1e-3)
    scaled, shape, turned, whole = (moved[o] for o in graph.output_names)
    assert set(np.round(scaled.ravel() / 2.5, 6)) == {np.float32(0.999), np.float32(1.001)}
    assert shape.tolist() == [3, 5] and np.array_equal(turned, scaled.T) and (whole == 3).all()
