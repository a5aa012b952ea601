"""What localize and repair rely on in a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import ModelError
from fetafix.options import Options
from fetafix.parallel import ModelProcess
from fetafix.report import Verdict
from fetafix.session import Session
from tests.small_models import cnn, node, save, weights


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    folder = tmp_path / "x.npy"
    np.save(folder, rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8))
    return folder


def test_sets_are_disjoint_and_feeds_fit_the_models(tmp_path: Path, photos: Path) -> None:
    source, target = cnn(tmp_path / "s.onnx"), cnn(tmp_path / "t.onnx", layout="nhwc")
    with Session(source, target, Options(data=photos, samples=30, source_preprocess="unit")) as session:
        search, heldout = (session.sets(which)[0] for which in ("search", "heldout"))  # type: ignore[arg-type]
        assert not set(search.indices) & set(heldout.indices)
        assert len(search) + len(heldout) == 30
        first, second = session.feeds("search", 8)
        assert first["x"].shape == (8, 3, 16, 16) and second["image"].shape == (8, 16, 16, 3)
        assert np.allclose(first["x"].transpose(0, 2, 3, 1), second["image"])
        assert session.bindings.input_names == {"image": "x"}
        assert session.gate == "labels" and session.heads["y_"].classifier == "yes"
        assert set(session.probes) == {"source", "target"}


def test_another_target_is_judged_without_running_the_source_again(tmp_path: Path, photos: Path) -> None:
    source = cnn(tmp_path / "s.onnx")
    broken = cnn(tmp_path / "t.onnx", change={"b1": weights()["b1"] * 3})
    with Session(source, broken, Options(data=photos, samples=30, source_preprocess="unit")) as session:
        assert session.judge("all").ruling.verdict is not Verdict.EQUIVALENT
        before = session.agreement("heldout")
        session.source.close()
        with ModelProcess(source) as repaired:
            judged = session.judge("heldout", repaired)
        assert judged.ruling.verdict is Verdict.EQUIVALENT and judged.agreement.max_abs == 0.0
        assert before.max_abs is not None and before.max_abs > 0.1
        assert session.agreement("heldout") == before
        assert session.agreement("search").samples + before.samples == 30


def test_another_target_may_have_another_input(tmp_path: Path, photos: Path) -> None:
    source = cnn(tmp_path / "s.onnx")
    with Session(source, source, Options(data=photos, samples=20, source_preprocess="unit")) as session:
        session.judge()
        with ModelProcess(cnn(tmp_path / "other.onnx", layout="nhwc", output="z")) as other:
            assert session.agreement("heldout", other).top1 == 1.0


def test_swap_test_tells_preprocessing_from_the_model(tmp_path: Path, photos: Path) -> None:
    source, target = cnn(tmp_path / "s.onnx"), cnn(tmp_path / "t.onnx", layout="nhwc")
    wrong = "unit,color=bgr,scale=1"
    options = Options(data=photos, samples=20, source_preprocess="unit", target_preprocess=wrong)
    with Session(source, target, options) as session:
        assert session.judge().ruling.verdict is not Verdict.EQUIVALENT
        swapped = session.swap_test()
        assert swapped is not None and swapped.ruling.verdict is Verdict.EQUIVALENT
        again = session.judge("search", preprocess="unit")
        assert again.ruling.verdict is Verdict.EQUIVALENT


def test_a_state_that_is_no_batch(tmp_path: Path) -> None:
    """A recurrent model: one input has a batch axis, the state has none."""
    w = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    nodes = [
        node("Squeeze", ["h", "one"], ["h2"]), node("MatMul", ["x", "w"], ["p"]), node("ReduceSum", ["h2"], ["q"]),
        node("Add", ["p", "q"], ["y"]), node("Tanh", ["h"], ["hn"]),
    ]
    shapes = {"x": [1, 6], "h": [2, 1, 6]}, {"y": [1, 6], "hn": [2, 1, 6]}
    path = save(tmp_path / "r.onnx", nodes, *shapes, {"w": w, "one": np.array([1])})
    with Session(path, path, Options(samples=6)) as session:
        judged = session.judge()
        assert judged.ruling.verdict is Verdict.EQUIVALENT
        assert {o.source for o in judged.agreement.outputs} == {"y", "hn"}
        first, _ = session.feeds("search", 4)
        assert first["x"].shape == (1, 6) and first["h"].shape == (2, 1, 6)


def test_workers_end_when_entering_fails(tmp_path: Path) -> None:
    source = cnn(tmp_path / "s.onnx")
    session = Session(source, tmp_path / "none.onnx", Options(samples=4))
    with pytest.raises(ModelError), session:
        pytest.fail("must not be entered")
    assert session.source_info.format == "onnx"
    with pytest.raises(ModelError, match="closed"):
        session.source.run({"x": np.zeros((1, 3, 16, 16), np.float32)})
