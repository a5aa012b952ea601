from __future__ import annotations

import numpy as np
import pytest

from fetafix.inputs.pairing import Side, pair_feeds
from fetafix.inputs.preprocess import parse
from fetafix.inputs.quantised import assumed
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.report import ModelInfo, TensorInfo

IMAGE = TensorInfo(name="x", dtype="float32", shape=["batch", 16, 16, 3])


def model(low: float, high: float, spec: TensorInfo = IMAGE) -> ModelInfo:
    facts = {spec.name: {"dtype": "uint8", "scale": (high - low) / 255, "zero_point": 0, "range": [low, high]}}
    return ModelInfo(path="m", format="tflite", inputs=[spec], details={"quantised_inputs": facts})


@pytest.mark.parametrize(("low", "high"), [(-1.0, 127 / 128), (0.0, 255.0), (0.0, 1.0), (-2.5, 2.6)])
def test_pixels_cover_what_the_codes_stand_for(low: float, high: float) -> None:
    found = assumed(model(low, high))
    assert found is not None
    (gain,), (bias,) = found.affine(1)
    assert bias == pytest.approx(low) and 255 * gain + bias == pytest.approx(high)


def test_only_images_that_are_quantised_tell() -> None:
    assert assumed(ModelInfo(path="m", format="onnx", inputs=[IMAGE])) is None
    assert assumed(model(-1, 1, TensorInfo(name="x", dtype="float32", shape=[1, 49, 10]))) is None


def test_both_models_get_the_same_images_and_a_note_says_what_was_assumed() -> None:
    told = assumed(model(-1.0, 127 / 128))
    for sides in ((Side([IMAGE], assumed=told), Side([IMAGE])), (Side([IMAGE]), Side([IMAGE], assumed=told))):
        first, second = pair_feeds(SyntheticSource(seed=1), [0, 1], *sides)
        np.testing.assert_array_equal(first.arrays["x"], second.arrays["x"])
        assert first.arrays["x"].min() < -0.5 and first.assumed
        assert any("codes of a quantised input" in n for n in first.notes)


def test_a_given_preprocessing_is_not_overruled() -> None:
    told = assumed(model(0.0, 255.0))
    given = Side([IMAGE], parse("unit"))
    first, second = pair_feeds(SyntheticSource(seed=1), [0], given, Side([IMAGE], assumed=told))
    assert first.arrays["x"].max() <= 1 and second.arrays["x"].max() <= 1 and not first.assumed
