"""Real TFLite files written by fetafix: the same without edits, one buffer changed by one weight, and they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.edits import SetInput, apply
from fetafix.formats.tflite import schema as tflite_schema
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import load_graph
from fetafix.graph.segment import relative_error
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.ir import Array, Graph, Node
from fetafix.parallel import ModelProcess
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
FILES = sorted(
    str(p.relative_to(ASSETS)) for p in ASSETS.rglob("*.tflite") if "selfie" not in p.name  # tf2onnx cannot lift that
) or ["none"]  # fmt: skip


def weighted(graph: Graph) -> tuple[Node, int, Array]:
    """The first layer with constant weights: (its node, or that which dequantises them; slot; weights)."""
    for node in graph.nodes:
        for slot in (1, 0) if node.op == "DequantizeLinear" else (1,):
            array = graph.constant(node, slot)
            if node.op in ("Conv", "MatMul", "Gemm") and array is not None and array.dtype == np.float32:
                return node, slot, array
            codes = array is not None and array.itemsize == 1 and array.ndim > 1
            if node.op == "DequantizeLinear" and slot == 0 and codes:
                return node, slot, np.asarray(array)
    raise AssertionError("no layer has weights")


@pytest.mark.parametrize("name", FILES)
def test_a_round_trip_and_one_weight(name: str, tmp_path: Path) -> None:
    path = ASSETS / name
    with ModelProcess(path) as process:
        feeds = SyntheticSource(0).feeds(range(1), process.info().inputs).feed(0)
        lifted = process.lift(tmp_path, feeds).path
        graph = load_graph(lifted)
        same, changed = tmp_path / "same.tflite", tmp_path / "changed.tflite"
        assert not process.write([], same, lifted).unsupported
        node, slot, weights = weighted(graph)
        new = weights.copy()
        place = int(np.argmax(np.abs(new.astype(np.float64) - np.median(new))))
        new.flat[place] = np.median(new)
        edit = SetInput(node.key, slot, new)
        assert not process.write([edit], changed, lifted).unsupported
        samples = {k: v[None] for k, v in feeds.items()}
        before = process.run(samples, 1, False)
    assert same.read_bytes() == path.read_bytes()
    old, made = (tflite_schema.parse(p.read_bytes()) for p in (path, changed))
    buffers = zip(old.buffers, made.buffers, strict=True)
    touched = [i for i, (a, b) in enumerate(buffers) if not np.array_equal(a.data, b.data)]
    assert touched and changed.stat().st_size >= path.stat().st_size
    with ModelProcess(changed) as process:
        answers = process.run(samples, 1, False)
    edited = apply(graph, [edit])
    evaluator = Evaluator()
    for output, want in zip(edited.output_names, evaluator.run(edited, feeds, edited.output_names), strict=True):
        plain = evaluator.run(graph, feeds, [output])[0]
        drift = relative_error(plain, np.asarray(before[output]).reshape(plain.shape))
        off = relative_error(np.asarray(answers[output]).reshape(want.shape), want)
        assert off <= max(5 * drift, 2e-3), output
