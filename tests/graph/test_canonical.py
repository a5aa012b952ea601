"""The canonical form computes the same and keeps the keys of the nodes that stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fetafix.errors import RuntimeCrash
from fetafix.graph.canonical import canonical
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Graph, Node, Value
from tests.faults.models import residual
from tests.faults.support import Builder

EVALUATOR = Evaluator()
X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


def graph(*nodes: Node, outputs: tuple[str, ...] = ("y",), **tensors: np.ndarray) -> Graph:
    value = Value("x", np.dtype(np.float32), (2, 4))
    return Graph(nodes, tensors, (value,), tuple(Value(o, np.dtype(np.float32)) for o in outputs), {"": 17})


def test_constants_become_initializers_under_their_own_name() -> None:
    made = Node("Constant", (), ("c",), {"value_float": 2.0})
    lean = canonical(graph(made, Node("Mul", ("x", "c"), ("y",))), EVALUATOR)
    assert [n.op for n in lean.nodes] == ["Mul"]
    assert lean.initializers["c"] == np.float32(2)


def test_constant_expressions_are_computed() -> None:
    nodes = (Node("Transpose", ("w",), ("wt",), {"perm": (1, 0)}), Node("MatMul", ("x", "wt"), ("y",)))
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    lean = canonical(graph(*nodes, w=w), EVALUATOR)
    assert [n.op for n in lean.nodes] == ["MatMul"]
    assert np.array_equal(lean.initializers["wt"], w.T)
    assert "w" not in lean.initializers


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_idle_nodes_go_but_not_an_output(op: str) -> None:
    inner = graph(Node(op, ("x",), ("i",)), Node("Relu", ("i",), ("y",)))
    assert [n.op for n in canonical(inner, EVALUATOR).nodes] == ["Relu"]
    outer = graph(Node("Relu", ("x",), ("r",)), Node(op, ("r",), ("y",)))
    assert [n.op for n in canonical(outer, EVALUATOR).nodes] == ["Relu", op]


def test_live_dropout_and_random_numbers_stay() -> None:
    training = graph(
        Node("Dropout", ("x", "ratio", "on"), ("d",)), Node("Relu", ("d",), ("y",)),
        ratio=np.float32(0.5).reshape(()), on=np.bool_(True).reshape(()),
    )
    assert "Dropout" in [n.op for n in canonical(training, EVALUATOR).nodes]
    noise = graph(Node("RandomNormal", (), ("n",), {"shape": (2, 4)}), Node("Add", ("x", "n"), ("y",)))
    assert "RandomNormal" in [n.op for n in canonical(noise, EVALUATOR).nodes]


def test_the_canonical_form_computes_the_same() -> None:
    whole = residual()
    padded = replace(
        whole,
        nodes=tuple(n for node in whole.nodes for n in (
            (replace(node, outputs=(f"{node.key}_raw",)), Node("Identity", (f"{node.key}_raw",), (node.key,)))
            if node.op == "Conv" else (node,))),
    )
    feeds = {"image": np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)}
    lean = canonical(padded, EVALUATOR)
    assert len(lean.nodes) == len(whole.nodes)
    assert np.array_equal(EVALUATOR.run(lean, feeds, lean.output_names)[0],
                          EVALUATOR.run(whole, feeds, whole.output_names)[0])


def test_equal_work_shares_a_session_and_errors_name_the_operator() -> None:
    evaluator = Evaluator()
    b = Builder()
    x = b.input((2, 4), "x")
    first = b.op("Mul", x, b.normal(2, 4))
    b.op("Mul", first, b.normal(2, 4))
    whole = b.build("t1")
    values = {"x": X}
    for node in whole.nodes:
        (values[node.key],) = evaluator.run(whole.between(values, [node.key]), values, [node.key])
    assert len(evaluator._sessions) == 1
    assert np.allclose(values["t1"], evaluator.run(whole, {"x": X}, ["t1"])[0])
    with pytest.raises(RuntimeCrash, match="Mul"):
        evaluator.run(whole, {"x": np.zeros((3, 5), np.float32)}, ["t1"])
    with pytest.raises(RuntimeCrash, match="neither fed nor computed"):
        evaluator.run(whole, {}, ["t1"])


def test_feeding_a_computed_tensor_cuts_the_graph_there() -> None:
    b = Builder()
    b.op("Relu", b.op("Neg", b.input((2, 4), "x")))
    whole = b.build("t1")
    assert np.array_equal(EVALUATOR.run(whole, {"t0": X}, ["t1"])[0], np.maximum(X, 0))
    scalar = graph(Node("Mul", ("x", "s"), ("y",)), s=np.float32(2).reshape(()))
    assert np.array_equal(EVALUATOR.run(scalar, {"x": X}, ["y"])[0], 2 * X)
