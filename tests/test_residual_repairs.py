"""Residual networks whose branches went wrong: named as such, at the layer, and written anew where they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx.onnx_ml_pb2 import NodeProto

from fetafix.api import Options, repair
from fetafix.options import RepairOptions
from fetafix.report import Finding, Verdict
from tests.small_models import node, save

BLOCKS = 3


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    made = {"w": rng.normal(size=(8, 3, 3, 3)) * 0.3, "head": rng.normal(size=(6, 8)), "head_b": np.zeros(6)}
    for i in range(BLOCKS):
        made |= {f"w{i}a": rng.normal(size=(8, 8, 3, 3)) * 0.15, f"w{i}b": rng.normal(size=(8, 8, 3, 3)) * 0.15}
        made |= {f"c{i}a": rng.normal(size=8) * 0.1, f"c{i}b": rng.normal(size=8) * 0.1}
    return {k: v.astype(np.float32) for k, v in made.items()}


def network(path: Path, without: Sequence[str] = (), rename: dict[str, str] | None = None,
            more: Sequence[NodeProto] = ()) -> Path:
    """Three residual blocks; `without` drops nodes by output, `rename` changes what the others read."""
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [node("Conv", ["x", "w"], ["c"], **pads), node("Relu", ["c"], ["r0"])]
    for i in range(BLOCKS):
        nodes += [
            node("Conv", [f"r{i}", f"w{i}a", f"c{i}a"], [f"a{i}"], **pads), node("Relu", [f"a{i}"], [f"ar{i}"]),
            node("Conv", [f"ar{i}", f"w{i}b", f"c{i}b"], [f"b{i}"], **pads),
            node("Add", [f"b{i}", f"r{i}"], [f"s{i}"]), node("Relu", [f"s{i}"], [f"r{i + 1}"]),
        ]  # fmt: skip
    nodes += [node("GlobalAveragePool", [f"r{BLOCKS}"], ["p"]), node("Flatten", ["p"], ["f"]),
              node("Gemm", ["f", "head", "head_b"], ["y"], transB=1)]
    kept = [*more, *(n for n in nodes if n.output[0] not in without)]
    for n in nodes:
        for i, name in enumerate(n.input):
            n.input[i] = (rename or {}).get(name, name)
    read = {t for n in kept for t in n.input}
    order = {n.output[0]: i for i, n in enumerate(nodes)}  # a node that is added comes behind what it reads
    kept.sort(key=lambda n: order.get(n.output[0], max(order.get(t, 0) for t in n.input) + 0.5))
    shapes = {"x": ["N", 3, 16, 16]}
    return save(path, kept, shapes, {"y": ["N", 6]}, {k: v for k, v in tensors().items() if k in read})


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    return network(tmp_path / "source.onnx")


def mended(source: Path, target: Path) -> list[Finding]:
    out = target.with_name("out.onnx")
    report = repair(source, target, Options(samples=24), RepairOptions(apply=True, output=out))
    assert (report.verdict, report.exit_code) == (Verdict.REPAIRED, 0), report.reason
    assert report.after is not None and report.after.top1 == 1.0
    return report.findings


def test_join_of_a_wrong_tensor_whose_own_branch_is_gone(healthy: Path, tmp_path: Path) -> None:
    gone = ["a1", "ar1", "b1"]
    target = network(tmp_path / "target.onnx", without=gone, rename={"b1": "b0"})
    (finding,) = mended(healthy, target)
    assert (finding.code, finding.target_layer) == ("cg-residual", "s1")


def test_block_that_is_skipped_is_written_once(healthy: Path, tmp_path: Path) -> None:
    gone = ["a1", "ar1", "b1", "s1"]
    target = network(tmp_path / "target.onnx", without=gone, rename={"s1": "r1"})
    (finding,) = mended(healthy, target)
    assert (finding.code, finding.target_layer) == ("cg-residual", "r2")


def test_activation_too_many_in_front_of_a_join(healthy: Path, tmp_path: Path) -> None:
    more = [node("Relu", ["b1"], ["extra"])]
    target = network(tmp_path / "target.onnx", without=["s1"], more=[*more, node("Add", ["extra", "r1"], ["s1"])])
    (finding,) = mended(healthy, target)
    assert (finding.code, finding.target_layer) == ("cg-act-missing", "extra")


def test_exchanged_join_is_no_lost_activation(healthy: Path, tmp_path: Path) -> None:
    """What stands behind the join would stand at the join as well, where it is an activation twice over."""
    target = network(tmp_path / "target.onnx", without=["s1"], more=[node("Max", ["b1", "r1"], ["s1"])])
    (finding,) = mended(healthy, target)
    assert (finding.code, finding.target_layer) == ("cg-op-substitution", "s1")
