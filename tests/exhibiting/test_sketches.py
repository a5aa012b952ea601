"""Graphs that are small enough to draw, around what was found, with words beside each node."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fetafix.exhibiting.details import detail
from fetafix.exhibiting.places import Place
from fetafix.exhibiting.sketches import MOST, Box, neighbourhood, sketch
from fetafix.exhibits import Sketch
from fetafix.findings import Names
from fetafix.ir import Array, Graph, Node, Value

FLOAT = np.dtype(np.float32)


def chain(length: int) -> list[Box]:
    return [Box(f"layer {i}", "Relu", (f"t{i}",), (f"t{i + 1}",)) for i in range(length)]


def drawn(boxes: list[Box], *found: str, **more: object) -> Sketch:
    made = sketch(boxes, found, **{"shapes": {}, **more})  # type: ignore[arg-type]
    assert made is not None
    return made


def test_two_hops_of_a_long_chain() -> None:
    made = drawn(chain(1000), "t500", shapes={"t500": (1, 64, 7), "t497": (1, None)})
    assert [n.layer for n in made.nodes] == [f"layer {i}" for i in range(497, 502)]
    assert [n.role for n in made.nodes] == ["near", "near", "found", "near", "near"]
    assert made.edges == [(-1, 0, "1×?"), (0, 1, ""), (1, 2, ""), (2, 3, "1×64×7"), (3, 4, ""), (4, -1, "")]


def test_the_ends() -> None:
    made = drawn(chain(3), "t1", outputs=["t3"])
    assert [n.layer for n in made.nodes] == ["layer 0", "layer 1", "layer 2"]
    assert made.edges == [(-1, 0, ""), (0, 1, ""), (1, 2, ""), (2, -1, "")]
    assert drawn(chain(2), "t1").edges == [(-1, 0, ""), (0, 1, "")]  # nothing reads t2, and it is no output


def test_a_wide_place_is_bounded() -> None:
    fan = [Box("split", "Split", ("x",), tuple(f"s{i}" for i in range(40)))]
    fan += [Box(f"branch {i}", "Relu", (f"s{i}",), (f"b{i}",)) for i in range(40)]
    fan += [Box("join", "Concat", tuple(f"b{i}" for i in range(40)), ("y",))]
    made = drawn(fan, "b30", outputs=["y"])
    assert len(made.nodes) == MOST
    assert [n.layer for n in made.nodes if n.role == "found"] == ["branch 30"]
    assert {"split", "join"} <= {n.layer for n in made.nodes}
    assert (0, -1, "") in made.edges  # the branches that are not drawn


def test_what_belongs_to_the_part_that_is_wrong_comes_first() -> None:
    boxes = [Box("in", "Relu", ("x",), ("a",))]
    boxes += [Box(f"r{i}", "Relu", ("a",), (f"r{i}",)) for i in range(20)]
    made = drawn(boxes, "a", region=["r17", "r19"])
    assert {"r17", "r19"} <= {n.layer for n in made.nodes} and len(made.nodes) == MOST


def test_many_layers_may_be_found_and_none() -> None:
    assert [n.role for n in drawn(chain(30), *(f"t{i}" for i in range(1, 20))).nodes] == ["found"] * MOST
    assert sketch(chain(3), ["elsewhere"], {}) is None


def graph() -> Graph:
    """x → Conv → BatchNormalization → Clip → Flatten → Gemm → y."""
    tensors: dict[str, Array] = {
        "w": np.ones((8, 3, 3, 3), FLOAT), "b": np.ones(8, FLOAT), "low": np.float32(0), "high": np.float32(6),
        "fc": np.ones((10, 128), FLOAT), **{n: np.ones(8, FLOAT) for n in ("scale", "shift", "mean", "var")},
    }  # fmt: skip
    nodes = (
        Node("Conv", ("x", "w", "b"), ("c",), {"pads": (1, 1, 1, 1), "strides": (2, 2), "dilations": (1, 1)}),
        Node("BatchNormalization", ("c", "scale", "shift", "mean", "var"), ("n",), {"epsilon": 1e-3}),
        Node("Clip", ("n", "low", "high"), ("r",)), Node("Flatten", ("r",), ("f",)),
        Node("Gemm", ("f", "fc"), ("y",), {"transB": 1}),
    )
    return Graph(nodes, tensors, (Value("x", FLOAT, (1, 3, 8, 8)),), (Value("y", FLOAT),), {"": 17},
                 {"x": (1, 3, 8, 8), "c": (1, 8, 4, 4), "n": (1, 8, 4, 4), "r": (1, 8, 4, 4), "f": (1, 128)})


def test_words_beside_a_node() -> None:
    made = graph()
    told = {n.op: detail(n, made) for n in made.nodes}
    assert told["Conv"] == ("kernel 3×3, strides 2×2, dilations 1×1, pads 1, weights 8×3×3×3, bias 8")
    lopsided = replace(made.nodes[0], attrs={**made.nodes[0].attrs, "pads": (0, 1, 2, 1)})
    assert "pads 0, 1, 2, 1" in detail(lopsided, made)
    assert told["BatchNormalization"] == "scale 8, bias 8, mean 8, variance 8, ε 0.001"
    assert "0" in told["Clip"] and "6" in told["Clip"]
    assert told["Gemm"] == "weights 10×128, transB 1" and told["Flatten"] == "axis 1"


def test_both_sides_of_a_finding_in_their_own_words() -> None:
    made = graph()
    place = Place("c", None, "c", 0.5, (made, made))
    names = Names(made, {"c": "stem"}), Names(made, {"c": "conv1", "n": "bn1"})
    found = neighbourhood(place, names, {"f": (1, 128)})
    assert found.source is None and found.target is not None
    assert [n.layer for n in found.target.nodes] == ["conv1", "bn1", "r"]
    assert found.target.nodes[0].detail.startswith("kernel 3×3")
    assert found.target.edges == [
        (-1, 0, "1×3×8×8"), (0, 1, "1×8×4×4"), (1, 2, "1×8×4×4"), (2, -1, "1×8×4×4")]
