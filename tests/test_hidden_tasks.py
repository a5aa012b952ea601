"""Faults that no sample shows, in models that are no classifiers: what the inputs found mean for the answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.api import Options, check
from fetafix.report import Verdict
from tests.small_models import node, save

RNG = np.random.default_rng(0)
W1 = RNG.normal(size=(6, 3, 3, 3)).astype(np.float32) * 0.3
W2, B2 = np.eye(7, 6, -1, dtype=np.float32)[:, :, None, None], np.float32([1.6, 0, 0, 0, 0, 0, 0])


def segmenter(path: Path, upper: float | None, share: float) -> Path:
    """Class maps; the activation is bounded above for a share of its size. Beyond it other classes begin."""
    bounds = {"lo": np.float32(0), **({} if upper is None else {"hi": np.float32(upper)})}
    nodes = [node("Conv", ["x", "w1"], ["c"], pads=[1] * 4), node("Clip", ["c", *bounds], ["r"]),
             node("Relu", ["c"], ["free"]), node("Mul", ["r", "share"], ["a"]), node("Mul", ["free", "rest"], ["b"]),
             node("Add", ["a", "b"], ["s"]), node("Conv", ["s", "w2", "b2"], ["mask"])]
    shares = {"share": np.float32([share]), "rest": np.float32([1 - share])}
    return save(path, nodes, {"x": ["N", 3, 8, 8]}, {"mask": ["N", 7, 8, 8]},
                {"w1": W1, "w2": W2, "b2": B2, **{k: np.asarray(v) for k, v in {**bounds, **shares}.items()}})


@pytest.mark.parametrize(("share", "verdict", "passed"), [
    (1.0, Verdict.DIVERGENT, False), (1e-3, Verdict.DRIFTING, True)])
def test_inputs_beside_the_samples_count_by_their_answers(
    share: float, verdict: Verdict, passed: bool, tmp_path: Path
) -> None:
    images = RNG.normal(size=(40, 3, 8, 8)) * np.linspace(0.02, 0.27, 40)[:, None, None, None]
    np.save(tmp_path / "x.npy", images.astype(np.float32))
    pair = segmenter(tmp_path / "a.onnx", 1.5, share), segmenter(tmp_path / "b.onnx", None, share)
    hidden = check(*pair, Options(data=tmp_path / "x.npy", threads=1, search="off"))
    assert (hidden.verdict, hidden.gate) == (Verdict.EQUIVALENT, "task"), hidden.reason
    found = check(*pair, Options(data=tmp_path / "x.npy", threads=1, search="quick"))
    assert found.search is not None and found.search.found and "searched beside them" in found.reason
    assert (found.verdict, found.passed) == (verdict, passed), found.reason
