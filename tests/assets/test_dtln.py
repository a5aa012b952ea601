"""A recurrent speech denoiser in two stages with several inputs and outputs, on synthetic inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from fetafix.api import Options, repair
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
STAGES = [ASSETS / f"pairs/dtln/model_{i}.onnx" for i in (1, 2)]
OPTIONS = Options(samples=24)


def renamed(path: Path, out: Path) -> onnx.ModelProto:
    """Every node and tensor under another name, outputs the other way round."""
    model = onnx.load(path)
    graph = model.graph
    made = [o for n in graph.node for o in n.output if o]
    tensors = [*(t.name for t in graph.initializer), *(v.name for v in graph.input), *made]
    names = {n: f"t{i}" for i, n in enumerate(dict.fromkeys(tensors))}
    for i, node in enumerate(graph.node):
        node.name = f"op{i}"
        node.input[:] = [names.get(t, t) for t in node.input]
        node.output[:] = [names.get(t, t) for t in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = names[value.name]
    del graph.value_info[:]
    swapped = list(reversed(graph.output))
    copies = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in swapped]
    del graph.output[:]
    graph.output.extend(copies)
    onnx.save(model, out)
    return model


def tensor_of(model: onnx.ModelProto, op: str, slot: int) -> onnx.TensorProto:
    """The constant in an input slot of the first such node."""
    node = next(n for n in model.graph.node if n.op_type == op)
    return next(t for t in model.graph.initializer if t.name == node.input[slot])


@pytest.mark.parametrize("stage", [1, 2])
def test_renamed_copy_has_no_finding(stage: int, tmp_path: Path) -> None:
    source, target = STAGES[stage - 1], tmp_path / "renamed.onnx"
    renamed(source, target)
    report = repair(source, target, OPTIONS, RepairOptions(apply=True, output=tmp_path / "out.onnx"))
    assert (report.verdict, report.exit_code) == (Verdict.EQUIVALENT, 0), report.reason
    assert (report.findings, report.repairs, report.output) == ([], [], None)
    assert report.samples.origin.startswith("synthetic")
    assert report.agreement is not None and len(report.agreement.outputs) == 2


@pytest.mark.parametrize(
    ("stage", "op", "slot", "category"), [(1, "LSTM", 2, "WB"), (2, "MatMul", 1, "WB"), (2, "Conv", 1, "WB")]
)
def test_wrong_weights_in_a_renamed_copy_are_repaired(
    stage: int, op: str, slot: int, category: str, tmp_path: Path
) -> None:
    source, target, out = STAGES[stage - 1], tmp_path / "wrong.onnx", tmp_path / "out.onnx"
    model = renamed(source, target)
    tensor = tensor_of(model, op, slot)
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(np.roll(value, 5, 1)), tensor.name))
    node = next(n for n in model.graph.node if n.op_type == op)
    onnx.save(model, target)
    report = repair(source, target, OPTIONS, RepairOptions(apply=True, output=out))
    assert (report.verdict, report.exit_code) == (Verdict.REPAIRED, 0), report.reason
    assert [(f.category, f.target_layer) for f in report.findings] == [(category, node.name)]
    rng = np.random.default_rng(0)
    theirs = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    ours = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    feeds = [rng.normal(size=[d if isinstance(d, int) else 1 for d in i.shape]).astype(np.float32)
             for i in theirs.get_inputs()]  # fmt: skip
    first, second = (
        s.run(None, {i.name: x for i, x in zip(s.get_inputs(), feeds, strict=True)}) for s in (theirs, ours)
    )
    for a, b in zip(first, reversed(second), strict=True):
        assert b == pytest.approx(a, abs=1e-4)
