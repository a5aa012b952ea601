"""Which format is meant, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.convert.kinds import Target, kind_of, target_of
from fetafix.convert.options import ConvertOptions
from fetafix.errors import UnreadableModel, UsageError
from tests.small_models import cnn


@pytest.mark.parametrize(("out", "to", "quantise", "target"), [
    ("a.onnx", None, None, Target("onnx")), ("a.PT", None, None, Target("torch")), ("a.h5", None, None, Target("h5")),
    ("folder/saved", None, None, Target("saved_model")), ("a.pb", None, None, Target("graphdef")),
    ("a.tflite", None, "int8", Target("tflite", "int8")), ("a.bin", "tflite-fp16", None, Target("tflite", "fp16")),
    ("a.tflite", "tflite-int8", "int8", Target("tflite", "int8")), ("a.pt", "torchscript", None, Target("torchscript")),
])
def test_the_format_meant(out: str, to: str | None, quantise: str | None, target: Target) -> None:
    assert target_of(out, to, quantise) == target


@pytest.mark.parametrize(("out", "to", "quantise", "said"), [
    ("a.bin", None, None, "'.bin' names no format"), ("a.onnx", "tflit", None, "did you mean 'tflite'"),
    ("a.onnx", None, "int8", "only TFLite files are quantised"), ("a.tflite", None, "int4", "fp16, dynamic, int8"),
    ("a.tflite", "tflite-fp16", "int8", "contradict"),
])
def test_what_makes_no_sense(out: str, to: str | None, quantise: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        target_of(out, to, quantise)


@pytest.mark.parametrize("wrong", [
    {"routes": 0}, {"calibration": 0}, {"timeout": 0.0}, {"timeout": float("nan")}, {"opset": 3},
    {"exporter": "onnxscript"}])
def test_options_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ConvertOptions(**wrong)  # type: ignore[arg-type]


def test_the_source_is_known_by_its_content(tmp_path: Path) -> None:
    assert kind_of(cnn(tmp_path / "a.onnx").rename(tmp_path / "a.tflite")) == "onnx"
    (tmp_path / "b.onnx").write_bytes(b"rubbish that is no model")
    with pytest.raises(UnreadableModel):
        kind_of(tmp_path / "b.onnx")
