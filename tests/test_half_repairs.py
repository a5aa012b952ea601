"""Models that a conversion to float16 broke, repaired in their file and proved by the native runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fetafix import api
from fetafix.graph.halves import halves
from fetafix.graph.proto import load_graph, model_from_graph
from fetafix.ir import Graph
from fetafix.report import Verdict
from tests.faults.models import renamed, residual
from tests.faults.sites import images
from tests.faults.test_half_faults import halved, island, normed


def save(graph: Graph, path: Path) -> Path:
    classes = 10 if len(graph.nodes) < 20 or any(n.op == "Softmax" for n in graph.nodes) else 5
    graph = replace(graph, outputs=tuple(replace(v, shape=("N", classes)) for v in graph.outputs))
    onnx.save(model_from_graph(graph, 8), path)
    return path


def scaled(graph: Graph) -> str:
    """The node that multiplies by more than float16 holds."""
    return next(n.key for n in graph.nodes if n.op == "Mul" and n.inputs[1] in graph.initializers)


def options(folder: Path, flat: bool = False) -> api.Options:
    x = images((40, 3, 12, 12), 3)
    if flat:
        x[::3] = 0.5  # of one colour: nothing varies in it
    np.save(folder / "x.npy", x)
    return api.Options(data=folder / "x.npy", samples=24, threads=1, source_preprocess="raw", target_preprocess="raw")


@pytest.mark.parametrize("whole", [False, True], ids=["island", "whole"])
def test_a_constant_that_overflowed(tmp_path: Path, whole: bool) -> None:
    graph = normed(epsilon=1e-4)
    broken = renamed(halved(graph) if whole else island(graph, scaled(graph)))
    source, target = save(graph, tmp_path / "s.onnx"), save(broken, tmp_path / "t.onnx")
    wanted = api.RepairOptions(apply=True, output=tmp_path / "out.onnx")
    report = api.repair(source, target, options(tmp_path), wanted)
    assert [f.code for f in report.findings] == ["dt-fp16-overflow"], report.notes
    assert report.findings[0].target_layer == broken.producers[f"v_{scaled(graph)}_h"].name
    assert [r.status for r in report.repairs if r.code == "dt-fp16-overflow"][:1] == ["kept"]
    assert report.agreement is not None and report.after is not None and report.after.max_abs is not None
    assert report.agreement.top1 != 1.0 and report.after.top1 == 1.0 and report.after.max_abs < 5e-3
    mended = load_graph(tmp_path / "out.onnx")
    assert len(halves(mended)) >= len(halves(broken)) - 4, "all but the node stays in float16"
    if not whole:
        assert report.verdict is Verdict.REPAIRED


def test_an_epsilon_that_vanished(tmp_path: Path) -> None:
    graph = normed()
    eps = next(n for n in graph.nodes if n.op == "Add")
    source, target = save(graph, tmp_path / "s.onnx"), save(renamed(island(graph, eps.key)), tmp_path / "t.onnx")
    wanted = api.RepairOptions(apply=True, output=tmp_path / "out.onnx")
    report = api.repair(source, target, options(tmp_path, flat=True), wanted)
    assert [(f.code, f.target_layer) for f in report.findings] == [("dt-eps-underflow", f"v_{eps.name}")]
    assert report.verdict is Verdict.REPAIRED and report.agreement is not None and report.agreement.top1 != 1.0


def test_a_healthy_float16_model_has_no_findings(tmp_path: Path) -> None:
    source = save(residual(), tmp_path / "s.onnx")
    target = save(renamed(halved(residual())), tmp_path / "t.onnx")
    report = api.localize(source, target, options(tmp_path))
    assert report.findings == [] and report.verdict in (Verdict.DRIFTING, Verdict.EQUIVALENT)
    assert report.agreement is not None and report.agreement.top1 == 1.0


class Rescaled(nn.Module):
    """Convolutions with a rescaling between them that float32 does not mind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)
        self.register_buffer("scale", torch.tensor(60000.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.first(x)) * 3) * self.scale / self.scale
        return self.head(torch.relu(y).mean((2, 3)))


def test_pytorch_in_half_precision(tmp_path: Path) -> None:
    """TorchScript overflows in its own runtime, and is mended in its own file."""
    torch.manual_seed(0)
    net = Rescaled().eval()
    torch.onnx.export(net, (torch.zeros(1, 3, 12, 12),), str(tmp_path / "s.onnx"), dynamo=False, input_names=["x"],
                      output_names=["y"], dynamic_axes={"x": {0: "N"}}, opset_version=17)
    script = torch.jit.trace(net.half(), torch.zeros(1, 3, 12, 12).half())  # type: ignore[no-untyped-call]
    torch.jit.save(script, str(tmp_path / "t.pt"))  # type: ignore[no-untyped-call]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3, 12, 12)).astype(np.float32) * 2)
    wanted = api.Options(data=tmp_path / "x.npy", samples=16, threads=1, source_preprocess="raw",
                         target_preprocess="raw")
    report = api.repair(tmp_path / "s.onnx", tmp_path / "t.pt", wanted)
    assert [f.code for f in report.findings] == ["dt-fp16-overflow"]
    assert report.findings[0].target_layer == "scale"  # called after the buffer that it reads
    assert report.agreement is not None and report.agreement.top1 == 0.0
    assert report.after is not None and report.after.top1 == 1.0
