"""Operators spelled out for operator sets that lack them compute what they computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fetafix.graph.downgrade import lowered
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.expand import expanded
from fetafix.ir import Array, Graph
from tests.faults.support import Builder

RUN = Evaluator().run
RNG = np.random.default_rng(0)
CASES = [
    ("Gelu", 20, (), {}), ("Gelu", 20, (), {"approximate": "tanh"}), ("HardSwish", 14, (), {}), ("Mish", 18, (), {}),
    ("LayerNormalization", 17, ((8,), (8,)), {"axis": -1, "epsilon": 1e-3}),
    ("LayerNormalization", 17, ((5, 8), (5, 8)), {"axis": 1}),
    ("LayerNormalization", 17, ((8,),), {}),
]


def single(op: str, opset: int, shapes: tuple[tuple[int, ...], ...], attrs: dict[str, Any]) -> tuple[Graph, Array]:
    b = Builder(1, opset)
    x = b.input((3, 5, 8), "x")
    graph = b.build(b.op(op, x, *(b.normal(*s) for s in shapes), **attrs))
    return graph, RNG.normal(0, 2, (3, 5, 8)).astype(np.float32)


@pytest.mark.parametrize(("op", "opset", "shapes", "attrs"), CASES)
@pytest.mark.parametrize("version", [11, 13])
def test_the_formula_is_the_operator(
    op: str, opset: int, shapes: tuple[tuple[int, ...], ...], attrs: dict[str, Any], version: int
) -> None:
    graph, x = single(op, opset, shapes, attrs)
    older = lowered(graph, version)
    assert older is not None and older.opset[""] == version and op not in {n.op for n in older.nodes}
    (before,), (after,) = (RUN(g, {"x": x}, g.output_names) for g in (graph, older))
    assert older.output_names == graph.output_names
    assert np.allclose(before, after, rtol=2e-5, atol=2e-6) and np.ptp(before) > 1


def test_what_the_version_has_stays() -> None:
    graph, _ = single("LayerNormalization", 17, ((8,),), {})
    assert expanded(graph, 17) is graph


def test_statistics_that_are_asked_for_are_not_spelled_out() -> None:
    b = Builder(1)
    x = b.input((3, 8), "x")
    y = b.op("LayerNormalization", x, b.normal(8), b.normal(8), outputs=2)
    assert lowered(b.build(y), 13) is None
