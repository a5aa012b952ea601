"""Canonical attributes mean what ONNX Runtime does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.edits import SetAttribute, apply
from fetafix.graph.attributes import canonical
from fetafix.graph.compare import assign, differences, through
from fetafix.graph.segment import relative_error
from fetafix.graph.twins import layout, twins
from fetafix.ir import Graph
from tests.faults import support


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]), st.integers(1, 4), st.integers(1, 3), st.integers(6, 11))
def test_auto_pad_is_what_the_runtime_pads(auto: str, kernel: int, stride: int, size: int) -> None:
    graph = support.conv(0, kernel=kernel, stride=stride, size=size, auto_pad=auto)  # no dilation: ORT refuses both
    node = graph.nodes[0]
    explicit = apply(graph, [SetAttribute(node.key, "auto_pad", None),
                             SetAttribute(node.key, "pads", canonical(node, graph)["pads"])])
    feeds = support.feeds_for(graph)
    (a,), (b,) = (support.run(g, feeds, g.output_names) for g in (graph, explicit))
    assert relative_error(a, b) == 0


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_auto_pad(auto: str, stride: int) -> None:
    b = support.Builder(0)
    graph = b.build(b.op("ConvTranspose", b.input((1, 2, 5, 5)), b.weight(2, 3, 4, 4), strides=(stride, stride),
                         auto_pad=auto))
    node = graph.nodes[0]
    explicit = apply(graph, [SetAttribute(node.key, "auto_pad", None),
                             SetAttribute(node.key, "pads", canonical(node, graph)["pads"])])
    feeds = support.feeds_for(graph)
    (a,), (c,) = (support.run(g, feeds, g.output_names) for g in (graph, explicit))
    assert relative_error(a, c) == 0


@pytest.mark.parametrize("opset", [7, 11, 13, 17])
def test_clip_in_every_opset(opset: int) -> None:
    graph = support.clip(0, opset)
    assert canonical(graph.nodes[1], graph) == {"min": 0.0, "max": 6.0}
    (edit,) = assign(graph.nodes[1], graph, {"max": math.inf})
    changed = apply(graph, [edit])
    assert canonical(changed.nodes[1], changed)["max"] == math.inf
    restored = apply(changed, assign(changed.nodes[1], changed, {"max": 6.0}))
    feeds = support.feeds_for(graph)
    (a,), (b,) = (support.run(g, feeds, g.output_names) for g in (graph, restored))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (13, 2)])
def test_softmax_default_axis_of_the_opset(opset: int, axis: int) -> None:
    b = support.Builder(0, opset)
    graph = b.build(b.op("Softmax", b.input((2, 3, 4))))
    values = canonical(graph.nodes[0], graph)
    assert values["axis"] == axis
    assert ("flattened" in values) == (opset < 13)


def _one(op: str, shape: tuple[int, ...], *inputs: np.ndarray, opset: int = 17, **attrs: object) -> Graph:
    b = support.Builder(0, opset)
    return b.build(b.op(op, b.input(shape), *inputs, **attrs))


def test_equal_settings_in_other_words() -> None:
    axes = np.array([2, 3], np.int64)
    pairs = [
        (_one("ReduceMean", (2, 3, 4, 4), opset=17, axes=(2, 3)), _one("ReduceMean", (2, 3, 4, 4), axes, opset=18)),
        (_one("Softmax", (2, 5), axis=1), _one("Softmax", (2, 5), axis=-1)),
        (_one("AveragePool", (1, 2, 6, 6), kernel_shape=(2, 2), count_include_pad=1),
         _one("AveragePool", (1, 2, 6, 6), kernel_shape=(2, 2))),
        (_one("Upsample", (1, 2, 4, 4), np.array([1, 1, 2, 2], np.float32), opset=9),
         _one("Resize", (1, 2, 4, 4), np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32), opset=13,
              coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
        (_one("Transpose", (2, 3, 4)), _one("Transpose", (2, 3, 4), perm=(2, 1, 0))),
    ]
    for a, b in pairs:
        assert differences(a.nodes[0], b.nodes[0], a, b) == {}, a.nodes[0].op


def test_pad_in_front_counts() -> None:
    graph = support.pad_conv(0)
    assert canonical(graph.nodes[1], graph)["pads"] == (0, 0, 1, 1)
    assert canonical(graph.nodes[0], graph)["pads"] == (0, 0, 0, 0, 0, 0, 1, 1)


def test_values_through_a_layout() -> None:
    assert through("axis", 1, "Softmax", support.NHWC) == 3
    assert through("axes", (2, 3), "ReduceMean", support.NHWC) == (1, 2)
    assert through("pads", (0, 0, 1, 2, 0, 0, 3, 4), "Pad", support.NHWC) == (0, 1, 2, 0, 0, 3, 4, 0)
    assert through("pads", (1, 1, 1, 1), "Conv", support.NHWC) == (1, 1, 1, 1)


def test_layout_follows_transposes() -> None:
    source, target = support.conv(0), support.conv_nhwc(0)
    segment = support.segment_for(source, target, perms={"input_0": support.NHWC}, goal_perm=support.NHWC)
    ((ours, theirs),) = twins(segment)
    assert layout(segment, ours, theirs) is None


def test_twins_skip_what_has_no_partner() -> None:
    source = support.conv_bn(0)
    b = support.Builder(0)
    target = b.build(b.op("Relu", b.op("Conv", b.input((2, 4, 8, 8)), b.weight(6, 4, 3, 3), pads=(1, 1, 1, 1))))
    assert [(t.op, s.op) for t, s in twins(support.segment_for(source, target))] == [("Conv", "Conv"), ("Relu", "Relu")]
