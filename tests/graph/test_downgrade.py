"""Operators in older operator sets compute what they computed: both spellings run, both answers agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fetafix.graph.downgrade import lowered
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Graph, Node, Value

RUN = Evaluator().run
X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32) * 4


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def single(op: str, *constants: Array | None, opset: int = 17, **attrs: Any) -> Graph:
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    tensors = {n: c for n, c in zip(names, constants, strict=True) if c is not None}
    node = Node(op, ("x", *names), ("y",), attrs, op)
    float32 = np.dtype(np.float32)
    return Graph((node,), tensors, (Value("x", float32, X.shape),), (Value("y", float32),), {"": opset}, {"x": X.shape})


SAME = [
    single("Slice", ints(1, 0), ints(3, 4), ints(1, 2)),
    single("Slice", ints(1), ints(2**63 - 1), ints(2), ints(1)),
    single("Clip", np.float32(0), np.float32(6)),
    single("Clip", None, np.float32(2)),
    single("Pad", ints(0, 0, 1, 1, 0, 0, 2, 0), np.float32(1.5)),
    single("Squeeze"),
    single("Unsqueeze", ints(0)),
    single("ReduceMean", axes=(2, 3)),
    single("ReduceSum", ints(1), keepdims=0),
    single("ReduceMean", ints(2), opset=18),
    single("Softmax", axis=-1),
    single("Softmax", axis=3),
    single("Concat", axis=-1),
    single("Mul", np.float32(3)),
    single("MaxPool", kernel_shape=(2, 2), strides=(2, 2), ceil_mode=0),
    single("Relu"),
]


@pytest.mark.parametrize("version", [7, 9, 10, 12])
@pytest.mark.parametrize("graph", SAME, ids=lambda g: f"{g.nodes[0].op}-{g.opset['']}")
def test_older_spelling_computes_the_same(graph: Graph, version: int) -> None:
    older = lowered(graph, version)
    assert older is not None and older.opset[""] == version
    (before,), (after,) = (RUN(g, {"x": X}, ["y"]) for g in (graph, older))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("graph", "version", "why"),
    [
        (single("Softmax", axis=1), 12, "flattened what lies behind the axis"),
        (single("Slice", ints(0), ints(6), ints(2), ints(2)), 9, "had no steps"),
        (single("ReduceL1", opset=18), 0, "did not exist"),
        (single("MaxPool", kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1), 9, "had no ceil_mode"),
        (single("Resize", None, np.array([1, 1, 2, 2], np.float32), mode="linear"), 10, "other coordinates"),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "",
)
def test_what_the_older_version_cannot_say_is_refused(graph: Graph, version: int, why: str) -> None:
    assert lowered(graph, version) is None, why


def test_bounds_that_are_computed_cannot_become_attributes() -> None:
    graph = single("Clip", np.float32(0), np.float32(6))
    open_ended = Graph(graph.nodes, {}, graph.inputs, graph.outputs, graph.opset, graph.shapes)
    assert lowered(open_ended, 9) is None
