"""A target in an older operator set gets what the source has more, in its own spelling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.onnx_ml_pb2 import NodeProto

from fetafix.api import Options, repair
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.small_models import node, save


def network(path: Path, opset: int, clipped: bool) -> Path:
    """A convolution, Clip to 0…1, another convolution, and the mean over the image."""
    rng = np.random.default_rng(1)
    tensors = {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(5, 6, 3, 3))}
    bounds = {"low": np.float32(0), "high": np.float32(1)} if clipped and opset >= 11 else {}
    clip: list[NodeProto] = []
    if clipped:
        old = {} if bounds else {"min": 0.0, "max": 1.0}
        clip = [node("Clip", ["c", *bounds], ["k"], **old)]
    nodes = [node("Conv", ["x", "w"], ["c"]), *clip, node("Conv", ["k" if clipped else "c", "v"], ["d"]),
             node("GlobalAveragePool", ["d"], ["p"]), node("Flatten", ["p"], ["y"])]  # fmt: skip
    constants = {**{k: v.astype(np.float32) for k, v in tensors.items()}, **{k: np.array(v) for k, v in bounds.items()}}
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 5]}, constants, opset=opset)


@pytest.mark.parametrize("opset", [9, 10, 12])
def test_lost_clip_comes_back_in_the_targets_operator_set(opset: int, tmp_path: Path) -> None:
    source, target = network(tmp_path / "a.onnx", 17, True), network(tmp_path / "b.onnx", opset, False)
    out = tmp_path / "out.onnx"
    report = repair(source, target, Options(samples=24), RepairOptions(apply=True, output=out))
    assert (report.verdict, [f.code for f in report.findings]) == (Verdict.REPAIRED, ["cg-act-missing"]), report.reason
    mended = onnx.load(out)
    assert [o.version for o in mended.opset_import if o.domain == ""] == [opset]
    (clip,) = (n for n in mended.graph.node if n.op_type == "Clip")
    assert sorted(a.name for a in clip.attribute) == (["max", "min"] if opset < 11 else [])


def test_equivalent_in_another_operator_set(tmp_path: Path) -> None:
    report = repair(network(tmp_path / "a.onnx", 17, True), network(tmp_path / "b.onnx", 9, True), Options(samples=24))
    assert (report.verdict, report.findings) == (Verdict.EQUIVALENT, [])
