"""Differences of preprocessing, inputs, classes and numbers that change nothing: no claim, no edit.

What belongs to one fault type is tested with it (test_pp_mean_folded.py, test_inputs_exchanged.py, test_pp_recipes.py,
test_chance_and_classes.py); here is the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from fetafix.edits import InsertNode, Rewire, SetInput, SetInputShape, SetOutputs, apply
from fetafix.faults import catalogue, get
from fetafix.graph.inputplaces import inserted, places
from fetafix.ir import Array, Graph, Node
from tests.faults.models import heads, renamed, residual
from tests.faults.sites import broken, claims, cnn, feeds_of, interface, run
from tests.faults.support import NCHW, NHWC, Builder, with_shapes
from tests.faults.whole import treated

FAULTS = [f for f in catalogue().values() if f.scope in ("interface", "both")]
Case = tuple[Graph, Graph, dict[str, Array]]


def shaped(graph: Graph) -> Graph:
    return with_shapes(graph, feeds_of(graph))


def scale_in_the_weights() -> Case:
    """The rescaling stands in the source, its factor in the target's first weights."""
    bare = shaped(cnn())
    source = shaped(apply(bare, inserted(bare, places(bare)[0], [("Mul", {}, np.float32([1 / 255]))])))
    conv = next(n for n in bare.nodes if n.op == "Conv")
    target = apply(bare, [SetInput(conv.key, 1, bare.initializers[conv.inputs[1]] / np.float32(255))])
    return source, target, {k: v * np.float32(255) for k, v in feeds_of(bare).items()}


def channels_turned_twice() -> Case:
    """BGR by a Gather, and the first weights in that order."""
    source = shaped(cnn())
    conv = next(n for n in source.nodes if n.op == "Conv")
    weight = np.ascontiguousarray(source.initializers[conv.inputs[1]][:, ::-1])
    gather = inserted(source, places(source)[0], [("Gather", {"axis": 1}, np.array([2, 1, 0]))])
    return source, apply(source, [SetInput(conv.key, 1, weight), *gather]), feeds_of(source)


def gray_images_in_bgr() -> Case:
    """All channels alike: their order does not matter."""
    source = shaped(cnn())
    made = broken(get("pp-bgr"), source, 1)
    assert made is not None
    return source, made[0], {k: np.repeat(v[:, :1], 3, axis=1) for k, v in feeds_of(source).items()}


def images_that_are_their_own_transposition() -> Case:
    """Height for width of images with x == xᵀ."""
    source = shaped(cnn())
    made = broken(get("pp-hw-swap"), source, 0)
    assert made is not None
    return source, made[0], {k: (v + v.swapaxes(2, 3)) / 2 for k, v in feeds_of(source).items()}


def one_channel_in_another_order() -> Case:
    """A Reshape for a Transpose where there is one channel: no value moves."""
    b = Builder(3)
    x = b.op("Conv", b.input((2, 1, 12, 12), "image"), b.weight(6, 1, 3, 3), b.normal(6), kernel_shape=(3, 3))
    x = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", x)), axis=1)
    source = b.build(b.op("Gemm", x, b.weight(5, 6), b.normal(5), transB=1))
    source = shaped(replace(source, inputs=(replace(source.inputs[0], shape=("N", 1, 12, 12)),)))
    shape = {"to_nchw": np.array([0, 1, 12, 12])}
    node = Node("Reshape", ("image", "to_nchw"), ("moved",), {}, "to_nchw")
    target = apply(source, [SetInputShape("image", ("N", 12, 12, 1)), InsertNode("image", node, shape)])
    return source, target, feeds_of(source)


def layout_declared_and_transposed() -> Case:
    """The other layout, declared so and transposed as it should be."""
    return shaped(cnn()), shaped(cnn(nhwc=True)), feeds_of(cnn())


def layout_turned_there_and_back() -> Case:
    source = shaped(cnn())
    there = InsertNode("image", Node("Transpose", ("image",), ("there",), {"perm": NHWC}, "there"))
    return source, apply(source, [there, InsertNode("there", Node("Transpose", ("there",), ("back",), {"perm": NCHW},
                                                                  "back"))]), feeds_of(source)


def an_open_size() -> Case:
    """The target leaves height and width open."""
    source = shaped(cnn())
    return source, apply(source, [SetInputShape("image", ("N", 3, "h", "w"))]), feeds_of(source)


def a_baked_batch_that_is_declared() -> Case:
    """A trace for three samples that says so, and gets three."""
    source = shaped(cnn(flatten="Reshape"))
    node = next(n for n in source.nodes if n.op == "Reshape")
    edits = [SetInput(node.key, 1, np.array([3, -1])), SetInputShape("image", (3, 3, 16, 16))]
    return source, apply(source, edits), feeds_of(source)


def outputs_listed_in_another_order() -> Case:
    source = shaped(heads())
    return source, apply(source, [SetOutputs(tuple(reversed(source.output_names)))]), feeds_of(source)


def softmax_over_an_equal_sum() -> Case:
    """What all scores have in common does not matter to a Softmax."""
    source = shaped(residual())
    gemm = next(n for n in source.nodes if n.op == "Gemm")
    return source, apply(source, [SetInput(gemm.key, 2, source.initializers[gemm.inputs[2]] + np.float32(3))]), \
        feeds_of(source)


def equal_classes_exchanged() -> Case:
    """Two classes with the same row in each other's place."""
    source = shaped(residual())
    gemm = next(n for n in source.nodes if n.op == "Gemm")
    weight, bias = (source.initializers[gemm.inputs[i]].copy() for i in (1, 2))
    weight[4], bias[4] = weight[7], bias[7]
    source = apply(source, [SetInput(gemm.key, 1, weight), SetInput(gemm.key, 2, bias)])
    order = np.arange(10)
    order[[4, 7]] = 7, 4
    node = Node("Gather", (source.output_names[0], "order"), ("g",), {"axis": 1}, "g")
    return source, apply(source, [InsertNode(source.output_names[0], node, {"order": order})]), feeds_of(source)


def one_input_read_twice() -> Case:
    """Two inputs that get the same values, exchanged."""
    b = Builder(8)
    left, right = b.input((2, 3, 8, 8), "left"), b.input((2, 3, 8, 8), "right")
    x, y = (b.op("Conv", i, b.weight(4, 3, 3, 3), b.normal(4), kernel_shape=(3, 3)) for i in (left, right))
    x = b.op("Flatten", b.op("GlobalAveragePool", b.op("Add", b.op("Relu", x), y)), axis=1)
    source = b.build(b.op("Gemm", x, b.weight(5, 4), b.normal(5), transB=1))
    convs = [n for n in source.nodes if n.op == "Conv"]
    same = feeds_of(source)["left"]
    edits = [Rewire(convs[0].key, 0, "right"), Rewire(convs[1].key, 0, "left")]
    return source, apply(source, edits), {"left": same, "right": same}


CASES: Mapping[str, Callable[[], Case]] = {
    make.__name__: make for make in (
        scale_in_the_weights, channels_turned_twice, gray_images_in_bgr, images_that_are_their_own_transposition,
        one_channel_in_another_order, layout_declared_and_transposed, layout_turned_there_and_back, an_open_size,
        a_baked_batch_that_is_declared, outputs_listed_in_another_order, softmax_over_an_equal_sum,
        equal_classes_exchanged, one_input_read_twice)
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_claimed_and_nothing_edited(name: str) -> None:
    source, target, feeds = CASES[name]()
    turned = target.inputs[0].shape in (("N", 16, 16, 3), ("N", 12, 12, 1))
    order = name == "outputs_listed_in_another_order"
    outputs = {f"v_{o}": o for o in source.output_names} if order else None
    laid = {k: np.ascontiguousarray(v.transpose(NHWC)) if turned else v for k, v in feeds.items()}
    for s, t in zip(run(source, feeds).values(), run(target, laid).values(), strict=True) if not order else ():
        assert np.allclose(s, t, rtol=1e-4, atol=1e-5), "the two are not equal: no NO-OP"
    other = with_shapes(renamed(target), {f"v_{k}": v for k, v in laid.items()})
    site = interface(source, other, feeds, {f"v_{k}": v for k, v in laid.items()}, tolerance=2e-5,
                     **({"outputs": outputs} if outputs else {}))
    assert claims(site, FAULTS) == []
    if not order:
        perms = {"v_image": NHWC} if turned else None
        treatment = treated(source, other, feeds, perms)
        assert treatment.steps == () and treatment.target is other
