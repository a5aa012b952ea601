"""A Transpose too many is blamed itself, though it shows only where the turned branch meets another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fetafix.api import Options, repair
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.small_models import node, save


def network(path: Path, turned: bool) -> Path:
    """Two branches, one of them pointwise, side by side."""
    rng = np.random.default_rng(2)
    shapes = {"w": (6, 3, 3, 3), "left": (4, 6, 1, 1), "right": (4, 6, 3, 3), "last": (5, 8, 3, 3)}
    tensors = {k: (rng.normal(size=s) * 0.3).astype(np.float32) for k, s in shapes.items()}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w"], ["c"], **pads), node("Relu", ["c"], ["r"]),
        *([node("Transpose", ["r"], ["turned"], perm=[0, 1, 3, 2])] if turned else []),
        node("Conv", ["turned" if turned else "r", "left"], ["a"]), node("Relu", ["a"], ["ar"]),
        node("Conv", ["r", "right"], ["b"], **pads), node("Concat", ["ar", "b"], ["ab"], axis=1),
        node("Conv", ["ab", "last"], ["d"]), node("GlobalAveragePool", ["d"], ["p"]), node("Flatten", ["p"], ["y"]),
    ]  # fmt: skip
    return save(path, nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 5]}, tensors)


def test_transpose_in_front_of_a_pointwise_branch(tmp_path: Path) -> None:
    source, target = network(tmp_path / "a.onnx", False), network(tmp_path / "b.onnx", True)
    report = repair(source, target, Options(samples=24), RepairOptions(apply=True, output=tmp_path / "out.onnx"))
    assert report.verdict is Verdict.REPAIRED, report.reason
    assert [(f.code, f.target_layer) for f in report.findings] == [("tss-transpose", "turned")]
