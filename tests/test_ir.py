"""The canonical graph: who makes and reads a tensor, and cutting a piece out."""

from __future__ import annotations

import pytest

from fetafix.ir import Body, Node
from tests.faults.models import residual
from tests.faults.support import Builder


def diamond() -> Builder:
    b = Builder()
    x = b.input((2, 4), "x")
    left, right = b.op("Relu", x), b.op("Tanh", x)
    b.op("Add", left, right)
    return b


def test_a_node_is_known_by_its_first_named_output() -> None:
    assert Node("Dropout", ("x",), ("", "mask")).key == "mask"
    assert Node("Relu", ("x",), ("y",)).label == "y"
    assert Node("Relu", ("x",), ("y",), name="act").label == "act"


def test_reads_include_what_a_body_captures() -> None:
    node = Node("If", ("cond", ""), ("y",), {"then_branch": Body(b"", ("outer", "cond"))})
    assert node.reads == ("cond", "outer")


def test_an_input_slot_beyond_the_end_is_filled_with_omitted_ones() -> None:
    assert Node("Conv", ("x", "w"), ("y",)).with_input(2, "b").inputs == ("x", "w", "b")
    assert Node("Clip", ("x",), ("y",)).with_input(2, "max").inputs == ("x", "", "max")


def test_a_piece_stops_at_its_starts_and_brings_its_weights() -> None:
    graph = residual()
    conv = graph.nodes[0]
    piece = graph.between(["image"], [conv.key])
    assert [n.op for n in piece.nodes] == ["Conv"]
    assert set(piece.initializers) == set(conv.inputs[1:])
    assert piece.input_names == ("image",)


def test_a_piece_reaches_back_no_further_than_its_starts() -> None:
    b = diamond()
    graph = b.build("t2")
    piece = graph.between(["t0", "t1"], ["t2"])
    assert [n.op for n in piece.nodes] == ["Add"]
    assert set(piece.input_names) == {"t0", "t1"}
    assert [n.op for n in graph.between(["t0"], ["t2"]).nodes] == ["Tanh", "Add"]


def test_an_end_that_is_also_a_start_is_still_computed() -> None:
    graph = diamond().build("t2")
    assert [n.op for n in graph.between(["x", "t0"], ["t0"]).nodes] == ["Relu"]


def test_consumers_list_every_slot() -> None:
    b = Builder()
    x = b.input((2, 4), "x")
    b.op("Mul", x, x)
    graph = b.build("t0")
    assert [(n.op, slot) for n, slot in graph.consumers["x"]] == [("Mul", 0), ("Mul", 1)]
    with pytest.raises(KeyError):
        graph.node("nowhere")
    assert graph.constant(graph.nodes[0], 1) is None
