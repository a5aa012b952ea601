"""The samples of models: in one random order for all, each with its own label, in files that workers map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fetafix.errors import InputDataError
from fetafix.report import ModelInfo, TensorInfo
from fetafix.stress.exam import Exam, Examiner
from fetafix.stress.options import StressOptions

CLASSES = 5


def model(name: str = "image", shape: tuple[object, ...] = ("N", 3, 8, 8)) -> ModelInfo:
    return ModelInfo(path="m", format="onnx", inputs=[TensorInfo(name=name, dtype="float32", shape=list(shape))])


def values(exam: Exam) -> np.ndarray:
    feed = next(iter(exam.feeds.values()))
    return np.load(feed.path)[list(feed.rows)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Grey pictures whose brightness is ten times their class, plus one for each further."""
    for kind in (0, 3, 4):
        (tmp_path / "data" / str(kind)).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), 10 * kind + i).save(tmp_path / "data" / str(kind) / f"{i}.png")
    return tmp_path / "data"


def test_labels_stay_with_their_images(images: Path, tmp_path: Path) -> None:
    options = StressOptions(data=images, preprocess="raw", samples=9, seed=2)
    examiner = Examiner(options, tmp_path)
    exam = examiner.labelled(examiner.exam(0, model()), CLASSES)
    grey = np.rint(values(exam)[:, 0, 0, 0]).astype(int)
    assert exam.labels is not None and exam.count == 9 and len(set(exam.indices)) == 9
    np.testing.assert_array_equal(exam.labels, grey // 10)
    assert list(exam.indices) != sorted(exam.indices), "a random order, so that ending early is fair"
    (tmp_path / "l.csv").write_text("".join(f"{k}/{i}.png,{(k + i) % CLASSES}\n" for k in (0, 3, 4) for i in range(4)))
    given = Examiner(StressOptions(data=images, preprocess="raw", labels=tmp_path / "l.csv"), tmp_path)
    other = given.labelled(given.exam(0, model()), CLASSES)
    grey = np.rint(values(other)[:, 0, 0, 0]).astype(int)
    assert other.labels is not None
    np.testing.assert_array_equal(other.labels, (grey // 10 + grey % 10) % CLASSES)
    assert other.labelled.endswith("l.csv")


def test_models_of_another_layout_get_the_same_samples(images: Path, tmp_path: Path) -> None:
    examiner = Examiner(StressOptions(data=images, preprocess="raw"), tmp_path)
    first = examiner.exam(0, model())
    second = examiner.exam(1, model("pixels", ("N", 8, 8, 3)))
    assert first.indices == second.indices
    np.testing.assert_array_equal(values(first), values(second).transpose(0, 3, 1, 2))


def test_rows_of_an_array_keep_their_labels(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", np.arange(20) % CLASSES)
    options = StressOptions(data=tmp_path / "x.npy", labels=tmp_path / "y.npy", samples=7)
    examiner = Examiner(options, tmp_path)
    exam = examiner.labelled(examiner.exam(0, model()), CLASSES)
    assert exam.labels is not None
    np.testing.assert_array_equal(exam.labels, values(exam)[:, 0, 0, 0].astype(int) % CLASSES)
    with pytest.raises(InputDataError, match="classes 0 to 2 only"):
        examiner.labelled(exam, 3)


def test_digests_tell_questions_apart(images: Path, tmp_path: Path) -> None:
    def digest(**more: object) -> str:
        examiner = Examiner(StressOptions(data=images, preprocess="raw", **more), tmp_path)  # type: ignore[arg-type]
        return examiner.labelled(examiner.exam(0, model()), CLASSES).digest

    (tmp_path / "l.csv").write_text("".join(f"{k}/{i}.png,0\n" for k in (0, 3, 4) for i in range(4)))
    found = [digest(), digest(seed=1), digest(samples=5), digest(labels=tmp_path / "l.csv")]
    assert len(set(found)) == 4 and digest() == found[0]
