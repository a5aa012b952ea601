"""Published models: where their files hold their weights, and what flips do to one of int8 codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix import api
from fetafix.formats import stored
from fetafix.stress.options import StressOptions
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
MODELS = {  # file → dtype and number of its weights
    "models/mobilenet_v2_1.0_224_imagenet.h5": ("float32", 3_471_040),
    "models/mobilenet_v1_0.25_128_quant.tflite": ("uint8", 463_856),
    "models/resnet20_cifar10.th": ("float32", 268_336),
    "models/squeezenet1_1_imagenet.pth": ("float32", 1_231_552),
    "pairs/resnet8_cifar10/pretrainedResnet.tflite": ("float32", 77_360),
    "pairs/resnet8_cifar10/pretrainedResnet_quant.tflite": ("int8", 77_360),
    "pairs/ultraface_rfb320/version-RFB-320.onnx": ("float32", 270_144),
}


@pytest.mark.parametrize("file", MODELS)
def test_where_the_weights_lie(file: str) -> None:
    dtype, count = MODELS[file]
    weights = [h for h in stored.held(ASSETS / file) if h.role == "weight"]
    assert {h.dtype.name for h in weights} == {dtype} and sum(h.size for h in weights) == count
    for h in weights:
        values = stored.read(h)
        assert np.isfinite(values.astype(np.float64)).all() and np.ptp(values.astype(np.float64)) > 0


def test_int8_codes_of_a_published_model() -> None:
    model = ASSETS / "models/mobilenet_v1_0.25_128_quant.tflite"
    report = api.stress([model], StressOptions(
        ber="1e-10,1e-3", data=ASSETS / "images/imagenet", samples=24, trials="auto:12"))
    subject = report.subjects[0]
    assert subject.storage.bits == 8 * MODELS["models/mobilenet_v1_0.25_128_quant.tflite"][1]
    assert [c.decided for c in subject.cells] == ["yes", "no"] and subject.cells[1].median < 0.3
    assert Path(subject.model.path) == model
