"""The real converters, from a framework's file to another's, judged in both frameworks' own runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fetafix import api
from fetafix.convert import ConversionReport, ConvertOptions, convert
from fetafix.convert.converters import executable
from fetafix.formats import recognise
from fetafix.report import Verdict

ONNX2TF = pytest.mark.skipif(executable() is None, reason="onnx2tf is not installed (FETAFIX_ONNX2TF names it)")


@pytest.fixture(scope="module")
def keras(tfzoo: Callable[[str], Path]) -> Path:
    return tfzoo("convert")


@pytest.fixture(scope="module")
def torch_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.pt, a pickled module with a dilated convolution, and samples.npy, (32, 3, 20, 20)."""
    import torch
    from torch import nn

    folder = tmp_path_factory.mktemp("torch")
    torch.manual_seed(0)
    samples = torch.randn(32, 3, 20, 20)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AvgPool2d(3, 2, 1),
        nn.Conv2d(8, 12, 3, padding=2, dilation=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 6))
    with torch.no_grad():
        net.train()(samples)
        scores = net.eval()(samples)
        net[-1].weight /= scores.std(0)[:, None]
        net[-1].bias.copy_((net[-1].bias - scores.mean(0)) / scores.std(0))
    torch.save(net, folder / "net.pt")
    np.save(folder / "samples.npy", samples.numpy())
    return folder


def go(source: Path, out: Path, samples: Path, **wanted: object) -> ConversionReport:
    options = api.Options(data=samples / "samples.npy", samples=24, threads=1)
    return convert(source, out, options, ConvertOptions(**wanted))  # type: ignore[arg-type]


def converters(report: ConversionReport) -> list[str]:
    return [s.converter for r in report.routes if r.number == report.chosen for s in r.steps]


def test_keras_to_tflite(keras: Path, tmp_path: Path) -> None:
    report = go(keras / "net.keras", tmp_path / "net.tflite", keras)
    assert (report.verdict, report.exit_code) == (Verdict.EQUIVALENT, 0), report.reason
    assert converters(report) == ["TFLite converter"] and recognise(tmp_path / "net.tflite") == "tflite"
    assert {"tensorflow", "keras"} <= set(report.routes[0].steps[0].versions)


def test_keras_to_int8_says_what_the_bits_cost(keras: Path, tmp_path: Path) -> None:
    report = go(keras / "net.keras", tmp_path / "net.tflite", keras, quantise="int8", routes=1, keep_rejected=True)
    assert report.check is not None and report.verdict in (Verdict.DRIFTING, Verdict.DIVERGENT)
    made = report.output.path if report.output else report.rejected
    dtypes = {i.dtype for i in report.check.target.inputs}
    assert made and dtypes == {"float32"} and report.check.target.details["quantised"] is True
    assert report.check.agreement is not None and (report.check.agreement.top1 or 0) > 0.8


def test_torch_to_onnx(torch_net: Path, tmp_path: Path) -> None:
    report = go(torch_net / "net.pt", tmp_path / "net.onnx", torch_net)
    assert (report.verdict, converters(report)) == (Verdict.EQUIVALENT, ["torch.onnx"]), report.reason


def test_torch_to_onnx_by_the_other_exporter(torch_net: Path, tmp_path: Path) -> None:
    report = go(torch_net / "net.pt", tmp_path / "net.onnx", torch_net, exporter="dynamo", opset=18)
    assert report.verdict is Verdict.EQUIVALENT and report.source.format == "torch-module", report.reason
    assert report.check is not None and report.check.target.details["opset"] == 18


def test_keras_to_torch_by_onnx(keras: Path, tmp_path: Path) -> None:
    report = go(keras / "net.h5", tmp_path / "net.pt", keras)
    assert (report.verdict, converters(report)) == (Verdict.EQUIVALENT, ["tf2onnx", "onnx2torch"]), report.reason


def test_tflite_to_torchscript(keras: Path, tmp_path: Path) -> None:
    report = go(keras / "net.tflite", tmp_path / "net.ts", keras)
    assert report.verdict is Verdict.EQUIVALENT, report.reason
    assert converters(report) == ["tf2onnx", "onnx2torch", "torch.jit"]


def test_saved_model_to_frozen_graph(keras: Path, tmp_path: Path) -> None:
    report = go(keras / "saved", tmp_path / "net.pb", keras)
    assert (report.verdict, converters(report)) == (Verdict.EQUIVALENT, ["tf.freeze"]), report.reason


@ONNX2TF
def test_torch_to_tflite_by_onnx(torch_net: Path, tmp_path: Path) -> None:
    report = go(torch_net / "net.pt", tmp_path / "net.tflite", torch_net)
    assert (report.verdict, converters(report)) == (Verdict.EQUIVALENT, ["torch.onnx", "onnx2tf"]), report.reason
    assert "onnx2tf" in report.routes[0].steps[1].versions
