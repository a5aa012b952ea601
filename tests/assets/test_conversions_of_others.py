"""Conversions that other people published: faithful ones are equivalent, int8 ones differ by what int8 explains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetafix.api import Options, check, localize, repair
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS

PAIRS = ASSETS / "pairs"
KWS = ASSETS / "known_broken/kws"


@dataclass(frozen=True)
class Pair:
    """Two files below pairs/, and what their inputs are made of."""

    source: str
    target: str
    images: str | None = None
    preprocess: str | None = None
    samples: int = 32

    def options(self, **more: Any) -> Options:
        data = {} if self.images is None else {"data": ASSETS / "images" / self.images}
        both = {"source_preprocess": self.preprocess, "target_preprocess": self.preprocess}
        return Options(**{"samples": self.samples, **data, **both, **more})

    @property
    def models(self) -> tuple[Path, Path]:
        return PAIRS / self.source, PAIRS / self.target

    def __str__(self) -> str:
        return f"{self.source}-{self.target}".replace("/", "_")


_RESNET8 = ("cifar10", "raw")
_VWW = ("imagenet", "unit")
_FACES = ("faces", "ultraface")
FAITHFUL = (
    Pair("resnet8_cifar10/pretrainedResnet.h5", "resnet8_cifar10/pretrainedResnet.tflite", *_RESNET8),
    Pair("resnet8_cifar10/pretrainedResnet.tflite", "resnet8_cifar10/pretrainedResnet.h5", *_RESNET8),
    Pair("vww/vww_96.h5", "vww/vww_96_float.tflite", *_VWW),
    Pair("vww/vww_96_float.tflite", "vww/vww_96.h5", *_VWW),
    *(Pair(f"mediapipe/{name}.{a}", f"mediapipe/{name}.{b}", samples=8)
      for name in ("face_detection_short_range", "face_landmark", "selfie_segmentation_landscape")
      for a, b in (("tflite", "onnx"), ("onnx", "tflite"))),
    *(Pair(f"dtln/model_{n}.{a}", f"dtln/model_{n}.{b}")
      for n in (1, 2) for a, b in (("tflite", "onnx"), ("onnx", "tflite"))),
)  # fmt: skip
QUANTISED = (
    Pair("resnet8_cifar10/pretrainedResnet.h5", "resnet8_cifar10/pretrainedResnet_quant.tflite", *_RESNET8),
    Pair("resnet8_cifar10/pretrainedResnet.tflite", "resnet8_cifar10/pretrainedResnet_quant.tflite", *_RESNET8),
    Pair("vww/vww_96.h5", "vww/vww_96_int8.tflite", *_VWW),
    Pair("vww/vww_96_float.tflite", "vww/vww_96_int8.tflite", *_VWW),
)


@pytest.mark.parametrize("pair", FAITHFUL, ids=str)
def test_faithful_conversions_agree_and_have_no_finding(pair: Pair) -> None:
    report = localize(*pair.models, pair.options())
    assert report.passed, report.reason
    assert report.verdict in (Verdict.EQUIVALENT, Verdict.DRIFTING), report.reason
    assert not report.findings


@pytest.mark.parametrize("pair", QUANTISED, ids=str)
def test_what_int8_explains_is_told_apart_from_a_fault(pair: Pair) -> None:
    report = localize(*pair.models, pair.options(samples=100, max_mismatch=0.15))
    assert report.passed, report.reason
    assert not report.findings, [(f.code, f.target_layer) for f in report.findings]
    assert report.quantisation is not None and report.quantisation.within
    assert report.quantisation.layers


def test_an_int8_conversion_without_fault_is_not_repaired(tmp_path: Path) -> None:
    pair, out = QUANTISED[0], tmp_path / "out.tflite"
    report = repair(*pair.models, pair.options(), RepairOptions(output=out, apply=True))
    assert not report.repairs and not out.exists()


@pytest.mark.parametrize(("form", "direction"), [("tflite", 1), ("tflite", -1)])
def test_ultraface_without_post_processing(form: str, direction: int) -> None:
    """Scores differ by 2e-4, boxes by 8e-4: weights in half precision."""
    stem = "ultraface_rfb320/version-RFB-320_without_postprocessing"
    models = [PAIRS / f"{stem}.onnx", PAIRS / f"{stem}.{form}"][::direction]
    options = Pair("", "", *_FACES, samples=12).options(tolerance={"scores": 1e-3, "boxes": 4e-3}) if direction > 0 \
        else Pair("", "", *_FACES, samples=12).options(tolerance={"Identity_1": 1e-3, "Identity": 4e-3})
    report = check(*models, options)
    assert report.verdict is Verdict.EQUIVALENT, report.reason


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the keyword spotter's inputs look like: 49 frames of 10 cepstral coefficients."""
    path = tmp_path_factory.mktemp("speech") / "mfcc.npy"
    np.save(path, np.random.default_rng(0).normal(-10, 25, (60, 49, 10, 1)).astype(np.float32))
    return path


def test_int8_weights_in_a_float32_file_are_seen(speech: Path) -> None:
    options = Options(data=speech, samples=40, source_preprocess="raw", target_preprocess="raw")
    report = check(KWS / "kws_ref_model.tflite", KWS / "kws_ref_model_float32.tflite", options)
    assert report.target.details["dtypes"]["int8"] >= 5
    assert any("int8" in note and "float32" in note for note in report.notes), report.notes


def test_another_training_run_is_called_that_and_not_repaired(speech: Path, tmp_path: Path) -> None:
    options = Options(data=speech, samples=40, source_preprocess="raw", target_preprocess="raw")
    out = tmp_path / "out.tflite"
    for source, target in ((KWS / "kws_ref_model", KWS / "kws_ref_model_float32.tflite"),
                           (KWS / "kws_ref_model_float32.tflite", KWS / "kws_ref_model")):  # fmt: skip
        report = repair(source, target, options, RepairOptions(output=out, apply=True))
        assert [f.code for f in report.findings] == ["unrelated-weights"]
        assert report.verdict is Verdict.DIVERGENT and not report.repairs and not out.exists()
