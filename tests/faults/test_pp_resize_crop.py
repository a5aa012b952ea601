"""Another policy of resizing: found where both recipes are known, mended in the configuration, silent elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix import api
from fetafix.inputs import natural
from fetafix.report import Verdict
from tests.small_models import cnn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, the same network in other layout, and uint8 images of another shape than its input's."""
    folder = tmp_path_factory.mktemp("policy")
    cnn(folder / "net.onnx")
    cnn(folder / "twin.onnx", layout="nhwc")
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", np.stack([natural.image(rng, 20, 28) for _ in range(16)]))
    return folder


def go(folder: Path, source: str, target: str, command: str = "repair") -> api.Report:
    options = api.Options(data=folder / "images.npy", samples=16, threads=1, gate="numeric", source_preprocess=source,
                          target_preprocess=target)
    return getattr(api, command)(folder / "net.onnx", folder / "twin.onnx", options)  # type: ignore[no-any-return]


@pytest.mark.parametrize("target", ["keras-torch", "keras-torch,interpolation=nearest"])
def test_the_policy_alone(folder: Path, target: str) -> None:
    report = go(folder, "torchvision", target)
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-resize-crop"]
    assert "resize is exact, in the source shorter" in report.findings[0].explanation
    (kept,) = (r for r in report.repairs if r.status == "kept")
    assert "mean" not in str(kept.edits)


@pytest.mark.parametrize("target", ["keras-tf", "keras-caffe"])
def test_the_whole_recipe(folder: Path, target: str) -> None:
    report = go(folder, "torchvision", target)
    assert report.verdict is Verdict.REPAIRED and [f.code for f in report.findings] == ["pp-resize-crop"]


def test_silent_where_the_recipes_agree_and_on_other_values(folder: Path) -> None:
    assert go(folder, "torchvision", "torchvision", "localize").findings == []
    codes = [f.code for f in go(folder, "keras-tf", "keras-torch", "localize").findings]
    assert codes and "pp-resize-crop" not in codes
