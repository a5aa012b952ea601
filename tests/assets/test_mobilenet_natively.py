"""MobileNetV2 out of Keras in every TensorFlow format: faults put into the files by hand are repaired in the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fetafix.api import Options, check, repair
from fetafix.formats import recognise
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = [*NEEDS_ASSETS, pytest.mark.slow]

SOURCE = ASSETS / "models/mobilenet_v2_1.0_224_imagenet.h5"
HEALTHY = ("mobilenet.tflite", "mobilenet.onnx", "mobilenet.pb", "mobilenet.keras", "mobilenet")
SEEDED = {
    "kernel-turned.tflite": {"wb-kernel-layout"},
    "bias-rolled.tflite": {"wb-bias"},
    "relu6-lost.tflite": {"cg-act-missing"},
    "dilated.tflite": {"lh-dilation"},
    "three.tflite": {"wb-kernel-layout", "wb-bias", "lh-dilation"},
    "kernel-turned.h5": {"wb-kernel-layout"},
    "relu6-lost.h5": {"lh-relu6-max"},
    "dilated.h5": {"lh-dilation"},
    "two.h5": {"wb-kernel-layout", "lh-dilation"},
    "kernel-turned.pb": {"wb-kernel-layout"},
    "relu6-lost.pb": {"lh-relu6-max"},
    "dilated.pb": {"lh-dilation"},
    "kernel-turned": {"wb-kernel-layout"},
    "relu6-lost": {"lh-relu6-max"},
    "dilated": {"lh-dilation"},
}


def _options(**more: Any) -> Options:
    both = {"source_preprocess": "keras-tf", "target_preprocess": "keras-tf"}
    return Options(**{"data": ASSETS / "images/imagenet", "samples": 24, **both, **more})


@pytest.mark.parametrize("name", HEALTHY)
def test_a_faithful_conversion_is_equivalent(name: str, tfzoo: Callable[[str], Path]) -> None:
    report = check(SOURCE, tfzoo("mobilenet") / name, _options(gate="numeric"))
    assert report.verdict is Verdict.EQUIVALENT, report.reason


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault_is_repaired_in_place(name: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    target, out = tfzoo("mobilenet") / name, tmp_path / f"out-{name}"
    report = repair(SOURCE, target, _options(gate="numeric"), RepairOptions(output=out, apply=True))
    assert {f.code for f in report.findings} == SEEDED[name]
    assert report.verdict is Verdict.REPAIRED, report.reason
    assert report.after is not None and report.after.top1 == 1.0
    assert recognise(out) == recognise(target)
    again = repair(SOURCE, out, _options(gate="numeric"), RepairOptions(output=tmp_path / f"again-{name}", apply=True))
    assert again.verdict is Verdict.EQUIVALENT and not again.repairs
