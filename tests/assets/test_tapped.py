"""A segmentation network with an operator that no lift knows: layers are compared in the native runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.api import Options, localize
from fetafix.inject import inject
from fetafix.tapped import CODE
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
PAIR = ASSETS / "pairs/mediapipe/selfie_segmentation_landscape"


@pytest.mark.parametrize(("code", "seed"), [("wb-bias", 3), ("lh-dilation", 1), ("wb-kernel-flip", 2)])
def test_the_faulty_layer_is_named_and_only_it(tmp_path: Path, code: str, seed: int) -> None:
    source, target = PAIR.with_suffix(".tflite"), tmp_path / "t.onnx"
    made = inject(PAIR.with_suffix(".onnx"), code, seed, target)
    report = localize(source, target, Options(samples=6, threads=1))
    (found,) = report.findings
    assert found.code == CODE and found.evidence["proved_by_forcing"]
    assert found.target_layer is not None and made.changes[0].startswith(found.target_layer)
    assert found.source_layer is not None and "conv" in found.source_layer
    assert "Convolution2DTransposeBias" in " ".join(report.notes)
