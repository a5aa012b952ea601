"""What edits did is undone, bit by bit, on graphs of every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import (
    Edit,
    InsertNode,
    RemoveNode,
    ReplaceSegment,
    Rewire,
    SetAttribute,
    SetInput,
    SetInputShape,
    SetOperator,
    SetOutputs,
    SetPreprocessing,
    apply,
    prune,
)
from fetafix.edits.inverse import inverse
from fetafix.errors import EditError
from fetafix.graph.structure import outline, unlike
from fetafix.ir import Graph, Node, Value
from tests.faults.support import Builder
from tests.patch.conversions import network, nodes

ONES = np.ones((8, 8, 3, 3), np.float32)


def _branches(graph: Graph) -> list[Edit]:
    """The addition reads the first activation twice."""
    (add,), (relu,) = nodes(graph, "Add"), nodes(graph, "Relu")
    return [Rewire(add, 0, relu)]


def _fragment(graph: Graph) -> list[Edit]:
    """The last convolution becomes another one, with a Relu behind it."""
    key = nodes(graph, "Conv")[2]
    feed = graph.node(key).input(0)
    made = (Node("Conv", ("in", "w"), ("c",), {"pads": (1, 1, 1, 1)}), Node("Relu", ("c",), ("out",)))
    dtype = np.dtype(np.float32)
    fragment = Graph(made, {"w": ONES}, (Value("in", dtype),), (Value("out", dtype),), graph.opset)
    return [ReplaceSegment(key, fragment, {"in": feed})]


CASES: dict[str, Callable[[Graph], Sequence[Edit]]] = {
    "attribute": lambda g: [SetAttribute(nodes(g, "Conv")[0], "dilations", (1, 1))],
    "attribute that was not there": lambda g: [SetAttribute(nodes(g, "Conv")[0], "group", 1)],
    "attribute dropped": lambda g: [SetAttribute(nodes(g, "Gemm")[0], "transB", None)],
    "constant": lambda g: [SetInput(nodes(g, "Conv")[1], 1, ONES)],
    "constant dropped": lambda g: [SetInput(nodes(g, "Conv")[1], 2, None)],
    "constant that was not there": lambda g: [
        SetInput(nodes(g, "Conv")[1], 2, None), SetInput(nodes(g, "Conv")[1], 2, np.ones(8, np.float32))],
    "constant for what is computed": lambda g: [SetInput(nodes(g, "Add")[0], 1, np.ones((1, 8, 1, 1), np.float32))],
    "wire": _branches,
    "operator": lambda g: [SetOperator(nodes(g, "Relu")[0], "LeakyRelu", {"alpha": 0.3})],
    "operator with constants": lambda g: [
        SetOperator(nodes(g, "Clip")[0], "Mul", {}, (g.node(nodes(g, "Clip")[0]).input(0), "k"),
                    constants={"k": np.array(3, np.float32)})],
    "insertion": lambda g: [InsertNode(nodes(g, "Conv")[0], Node("Tanh", (nodes(g, "Conv")[0],), ("t",)))],
    "insertion at the output": lambda g: [
        InsertNode(g.output_names[0], Node("Softmax", (g.output_names[0],), ("t",), {"axis": 1}))],
    "insertion for one reader": lambda g: [
        InsertNode(nodes(g, "Relu")[0], Node("Tanh", (nodes(g, "Relu")[0],), ("t",)),
                   consumers=((nodes(g, "Add")[0], 1),))],
    "removal": lambda g: [RemoveNode(nodes(g, "Clip")[0])],
    "removal with weights": lambda g: [RemoveNode(nodes(g, "BatchNormalization")[1])],
    "segment": _fragment,
    "preprocessing": lambda g: [SetPreprocessing({"color": "bgr"})],
    "input shape": lambda g: [SetInputShape("input_0", (4, 3, 12, 12))],
    "several": lambda g: [
        RemoveNode(nodes(g, "Relu")[0]), *_fragment(g), SetAttribute(nodes(g, "Conv")[0], "pads", (1, 1, 1, 1))],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_graph_is_as_it_was(case: str) -> None:
    graph = network()
    edits = list(CASES[case](graph))
    after = prune(apply(graph, edits))
    same = case in ("preprocessing", "input shape", "attribute that was not there")
    assert (unlike(outline(graph), outline(after)) == "") is same
    again = prune(apply(after, inverse(graph, edits, {"color": "rgb"})))
    assert unlike(outline(graph), outline(again)) == ""
    assert [v.shape for v in again.inputs] == [v.shape for v in graph.inputs]


def test_old_values_come_back_bit_by_bit() -> None:
    graph = network()
    key = nodes(graph, "Conv")[1]
    (undo,) = inverse(graph, [SetInput(key, 1, ONES)])
    assert isinstance(undo, SetInput) and undo.value is graph.constant(graph.node(key), 1)


def test_a_removal_right_before_the_output_where_another_reads_what_it_read() -> None:
    b = Builder()
    x = b.input((1, 4))
    t = b.op("Tanh", x)
    r = b.op("Relu", t)
    s = b.op("Sigmoid", t)
    graph = b.build(r, s)
    after = prune(apply(graph, [RemoveNode(r)]))
    assert unlike(outline(graph), outline(after))
    assert unlike(outline(graph), outline(prune(apply(after, inverse(graph, [RemoveNode(r)]))))) == ""


def test_outputs_and_the_nodes_that_served_only_them_come_back() -> None:
    graph = network()
    inner = nodes(graph, "GlobalAveragePool")[0]
    more = replace(graph, outputs=(*graph.outputs, Value("extra", np.dtype(np.float32))),
                   nodes=(*graph.nodes, Node("Flatten", (inner,), ("e",)), Node("Relu", ("e",), ("extra",))))
    edits = [SetOutputs(graph.output_names)]
    after = prune(apply(more, edits))
    assert len(after.nodes) == len(graph.nodes)
    assert unlike(outline(more), outline(prune(apply(after, inverse(more, edits))))) == ""


def test_a_shared_constant_is_shared_again() -> None:
    b = Builder()
    x = b.input((1, 4))
    shared = b.normal(1, 4)
    first = b.op("Mul", x, shared)
    second = b.op("Add", first, shared)
    graph = b.build(second)
    name = graph.node(first).input(1)
    graph = replace(graph, nodes=(graph.nodes[0], graph.nodes[1].with_input(1, name)),
                    initializers={name: shared})
    edits = [SetInput(second, 1, np.zeros((1, 4), np.float32))]
    after = apply(graph, edits)
    again = prune(apply(after, inverse(graph, edits)))
    assert len(after.initializers) == 2 and list(again.initializers) == [name]


def test_what_cannot_be_undone_is_said() -> None:
    graph = network()
    with pytest.raises(EditError, match="no node with that first output"):
        inverse(graph, [SetAttribute("nowhere", "axis", 1)])
    unread = InsertNode(nodes(graph, "Relu")[0], Node("Tanh", (nodes(graph, "Relu")[0],), ("t",)), consumers=())
    with pytest.raises(EditError, match="read by nothing"):
        inverse(graph, [unread])
