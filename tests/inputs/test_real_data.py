"""Presets on real photographs: a model answers as it should only if decoding and preprocessing are right."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from fetafix.inputs.preprocess import parse
from fetafix.inputs.sources import open_source
from fetafix.report import TensorInfo

ASSETS = os.environ.get("FETAFIX_ASSETS", "")

pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(not ASSETS, reason="FETAFIX_ASSETS names no folder of real models and images"),
]


def test_faces_are_found_with_the_preset_and_missed_without() -> None:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    model = ort.InferenceSession(
        Path(ASSETS, "pairs/ultraface_rfb320/version-RFB-320.onnx").read_bytes(), options,
        providers=["CPUExecutionProvider"],
    )  # fmt: skip
    inputs = [TensorInfo(name=i.name, dtype="float32", shape=list(i.shape)) for i in model.get_inputs()]
    source = open_source(Path(ASSETS, "images/faces"), trust=False)

    def faces(preprocess: str) -> np.ndarray:
        samples = source.feeds(range(len(source)), inputs, parse(preprocess))
        scores = [model.run(None, samples.feed(i))[0][0, :, 1] for i in range(len(samples))]
        return np.asarray([(s > 0.7).sum() for s in scores])

    right, wrong = faces("ultraface"), faces("raw")
    assert (right > 0).all() and wrong.sum() < 0.2 * right.sum()
    assert not source.skipped and source.origin.startswith("12 image file(s) in ")
