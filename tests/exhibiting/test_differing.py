"""Samples on which labels differ, before and after a repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fetafix import api
from fetafix.exhibiting.differing import BEST, MOST, _chosen
from fetafix.exhibits import Differing
from fetafix.options import Options
from fetafix.report import Report
from tests import small_models
from tests.networks import images


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("differing")
    bias = {"b1": np.linspace(-3, 3, 8, dtype=np.float32)}
    small_models.cnn(folder / "source.onnx")
    small_models.cnn(folder / "target.onnx", change=bias)
    (folder / "images").mkdir()
    for i, image in enumerate(images(40)):
        Image.fromarray(image).resize((64, 48)).save(folder / "images" / f"{i:02}.png")
    return folder


def run(place: Path, command: str, data: Path | None = None, **changes: object) -> Report:
    wanted = Options(**{"data": data or place / "images", "samples": 40, "threads": 1, "search": "off",  # type: ignore[arg-type]
                        "exhibits": True, "source_preprocess": "unit", "target_preprocess": "unit"} | changes)
    return getattr(api, command)(place / "source.onnx", place / "target.onnx", wanted)  # type: ignore[no-any-return]


def shown(report: Report) -> list[Differing]:
    assert report.exhibits is not None
    return report.exhibits.differing


def test_names_labels_and_pictures_are_those_of_the_report(place: Path) -> None:
    report = run(place, "check")
    assert report.agreement is not None
    told = [f"{d.sample}: source says {d.source[0].label}, target {d.target[0].label}" for d in shown(report)]
    assert told == report.agreement.mismatches[:MOST] and told
    for d in shown(report):
        assert len(d.source) == len(d.target) == BEST and d.after == []
        assert [s.score for s in d.source] == sorted((s.score for s in d.source), reverse=True)
        assert d.image.startswith("data:image/png;base64,") and len(d.image) < 20_000


def test_before_and_after_of_the_very_same_samples(place: Path) -> None:
    report = run(place, "repair")
    assert report.agreement is not None and report.after is not None and report.after.top1 == 1.0
    names = [d.sample for d in shown(report)]
    assert names == [m.split(":")[0] for m in report.agreement.mismatches[:MOST]] and names
    for d in shown(report):
        assert d.source[0].label != d.target[0].label
        assert [s.label for s in d.after] == [s.label for s in d.source]
        assert [s.score for s in d.after] == pytest.approx([s.score for s in d.source], abs=1e-4)


def test_tensors_that_look_like_images_are_shown_and_others_are_not(place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 3, 16, 16), np.float32))
    options = {"source_preprocess": None, "target_preprocess": None}
    made = shown(run(place, "check", tmp_path / "x.npy", **options))
    assert made and all(d.image and d.sample.startswith("sample ") for d in made)


def test_models_that_agree_have_none(place: Path) -> None:
    report = api.check(place / "source.onnx", place / "source.onnx", Options(samples=8, exhibits=True))
    assert report.exhibits is None or report.exhibits.differing == []


def test_which_are_chosen() -> None:
    assert _chosen([3, 5], []) == [3, 5]
    assert _chosen(list(range(20)), []) == list(range(MOST))
    assert _chosen(list(range(20)), [15, 16, 17, 18, 19]) == [0, 1, 2, 3, 15, 16, 17, 18]
    assert _chosen([1], [7, 8]) == [1, 7, 8]
