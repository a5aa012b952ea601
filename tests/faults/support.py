"""Small graphs to put faults in, and segments made of whole small graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.errors import FetafixError
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.segment import Anchor, Layout, Segment, relative_error
from fetafix.ir import Array, Graph, Node, Value

EVALUATOR = Evaluator()
NHWC = (0, 2, 3, 1)
NCHW = (0, 3, 1, 2)


class Builder:
    """Writes a graph down in reading order; arrays as inputs become initializers."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.inputs: list[Value] = []

    def input(self, shape: Sequence[int], name: str = "") -> str:
        """A float32 graph input."""
        name = name or f"input_{len(self.inputs)}"
        self.inputs.append(Value(name, np.dtype(np.float32), tuple(shape)))
        return name

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Array:
        """Gaussian float32 values."""
        return (mean + scale * self.rng.standard_normal(shape)).astype(np.float32)

    def weight(self, *shape: int) -> Array:
        """Gaussian weights whose outputs have a variance near 1."""
        return self.normal(*shape, scale=1.0 / np.sqrt(max(np.prod(shape[1:]), 1)))

    def op(self, op: str, *inputs: str | Array, outputs: int = 1, domain: str = "", **attrs: Any) -> str:
        """Append a node; returns its first output."""
        index = len(self.nodes)
        names = []
        for slot, value in enumerate(inputs):
            if isinstance(value, np.ndarray):
                name = f"const_{index}_{slot}"
                self.tensors[name] = value
                names.append(name)
            else:
                names.append(value)
        made = tuple(f"t{index}" + (f"_{i}" if i else "") for i in range(outputs))
        self.nodes.append(Node(op, tuple(names), made, attrs, f"{op.lower()}_{index}", domain))
        return made[0]

    def batchnorm(self, x: str, channels: int, epsilon: float = 1e-3) -> str:
        """A BatchNormalization whose variances are partly small, as trained ones are."""
        gamma, beta = self.normal(channels, scale=0.3, mean=1.0), self.normal(channels, scale=0.5)
        mean = self.normal(channels, scale=0.5)
        var = np.exp(self.normal(channels, scale=1.0, mean=-1.0)).astype(np.float32)
        return self.op("BatchNormalization", x, gamma, beta, mean, var, epsilon=epsilon)

    def build(self, *outputs: str) -> Graph:
        """The graph, with the concrete shapes of all tensors."""
        values = tuple(Value(o, np.dtype(np.float32)) for o in outputs)
        graph = Graph(tuple(self.nodes), dict(self.tensors), tuple(self.inputs), values, {"": self.opset})
        return with_shapes(graph, feeds_for(graph))


def feeds_for(graph: Graph, seed: int = 0, spread: float = 1.0) -> dict[str, Array]:
    """Gaussian inputs in a smooth and a rough half, so that no layout or border mistake goes unnoticed."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.inputs:
        dims = [int(d) for d in value.shape or ()]  # type: ignore[arg-type]
        feeds[value.name] = (spread * rng.standard_normal(dims)).astype(value.dtype)
    return feeds


def run(graph: Graph, feeds: Mapping[str, Array], fetch: Sequence[str]) -> list[Array]:
    """The shared evaluator's `run`."""
    return EVALUATOR.run(graph, feeds, fetch)


def with_shapes(graph: Graph, feeds: Mapping[str, Array]) -> Graph:
    """The graph with `shapes` measured on a run; unchanged where it cannot run."""
    made = [o for n in graph.nodes for o in n.outputs if o]
    shapes = {k: v.shape for k, v in (*graph.initializers.items(), *feeds.items())}
    try:
        shapes |= {k: v.shape for k, v in zip(made, run(graph, feeds, made), strict=True)}
    except FetafixError:
        return replace(graph, shapes={**graph.shapes, **shapes})
    return replace(graph, shapes=shapes)


def segment_for(
    source: Graph,
    target: Graph,
    *,
    perms: Mapping[str, tuple[int, ...]] | None = None,
    goal_perm: tuple[int, ...] | None = None,
    feeds: Mapping[str, Array] | None = None,
    seed: int = 1,
    spread: float = 1.0,
    tolerance: float = 2e-6,
) -> Segment:
    """A segment over two whole graphs with one output each; inputs are paired by position.

    perms: target input → perm with target = source.transpose(perm); goal_perm likewise for the output.
    feeds: the source's inputs; random by default.
    """
    perms = perms or {}
    source_feeds = dict(feeds or feeds_for(source, seed, spread))
    pairs = list(zip(target.input_names, source.input_names, strict=True))
    target_feeds = {t: np.ascontiguousarray(source_feeds[s].transpose(perms.get(t, range(source_feeds[s].ndim))))
                    for t, s in pairs}
    source, target = with_shapes(source, source_feeds), with_shapes(target, target_feeds)
    (expected,) = run(source, source_feeds, source.output_names)
    if goal_perm is not None:
        expected = expected.transpose(goal_perm)
    actual, failure, error = None, "", float("inf")
    try:
        (actual,) = run(target, target_feeds, target.output_names)
        error = relative_error(actual, expected)
    except FetafixError as problem:
        failure = str(problem)
    return Segment(
        target=target, source=source, anchors=tuple(Anchor(t, s, Layout(perms.get(t))) for t, s in pairs),
        goal=Anchor(target.output_names[0], source.output_names[0], Layout(goal_perm)),
        feeds=target_feeds, source_feeds=source_feeds, expected=expected, actual=actual, error=error,
        tolerance=tolerance, full=target, run=run, failure=failure,
    )


# ---------------------------------------------------------------- a zoo of small graphs


def conv(seed: int = 0, *, kernel: int = 3, stride: int = 1, size: int = 8, pads: tuple[int, ...] | None = None,
         channels: tuple[int, int] = (4, 6), dilation: int = 1, bias: bool = True, **attrs: Any) -> Graph:
    """One convolution."""
    b = Builder(seed)
    reach = dilation * (kernel - 1) // 2
    inputs = [b.input((2, channels[0], size, size)), b.weight(channels[1], channels[0], kernel, kernel)]
    if bias:
        inputs.append(b.normal(channels[1]))
    more = {} if "auto_pad" in attrs else {"pads": pads if pads is not None else (reach,) * 4}
    return b.build(b.op("Conv", *inputs, kernel_shape=(kernel, kernel), strides=(stride, stride),
                        dilations=(dilation, dilation), **more, **attrs))


def conv_same(seed: int = 0) -> Graph:
    """A strided convolution of even size with TensorFlow's asymmetric SAME padding."""
    return conv(seed, stride=2, pads=(0, 0, 1, 1))


def conv_strided(seed: int = 0) -> Graph:
    """A strided convolution with symmetric pads, as torch writes it."""
    return conv(seed, stride=2, pads=(1, 1, 1, 1))


def conv_dilated(seed: int = 0) -> Graph:
    """A dilated convolution."""
    return conv(seed, dilation=2, size=10)


def conv_bn(seed: int = 0) -> Graph:
    """Conv + BatchNormalization + Relu."""
    b = Builder(seed)
    x, bias = b.input((2, 4, 8, 8)), b.normal(6, scale=0.4)
    x = b.op("Conv", x, b.weight(6, 4, 3, 3), bias, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    return b.build(b.op("Relu", b.batchnorm(x, 6)))


def batchnorm(seed: int = 0) -> Graph:
    """A BatchNormalization on its own."""
    b = Builder(seed)
    return b.build(b.batchnorm(b.input((2, 6, 5, 5)), 6))


def depthwise(seed: int = 0) -> Graph:
    """A depthwise convolution with channel multiplier 2."""
    b = Builder(seed)
    return b.build(b.op("Conv", b.input((2, 4, 8, 8)), b.weight(8, 1, 3, 3), b.normal(8), group=4, kernel_shape=(3, 3),
                        pads=(1, 1, 1, 1)))


def gemm(seed: int = 0, *, trans_b: int = 1, square: bool = True) -> Graph:
    """A fully connected layer as Gemm."""
    b = Builder(seed)
    shape = (12, 12) if square else ((5, 12) if trans_b else (12, 5))
    return b.build(b.op("Gemm", b.input((4, 12)), b.weight(*shape), b.normal(shape[1 - trans_b]), transB=trans_b))


def matmul_add(seed: int = 0) -> Graph:
    """A fully connected layer as MatMul + Add, square."""
    b = Builder(seed)
    return b.build(b.op("Add", b.op("MatMul", b.input((4, 12)), b.weight(12, 12)), b.normal(12)))


def pooling(seed: int = 0) -> Graph:
    """An AveragePool that counts its padding."""
    b = Builder(seed)
    return b.build(b.op("AveragePool", b.input((2, 3, 8, 8)), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1),
                        count_include_pad=1))


def max_pooling(seed: int = 0) -> Graph:
    """A strided MaxPool with symmetric pads."""
    b = Builder(seed)
    return b.build(b.op("MaxPool", b.input((2, 3, 8, 8)), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))


def resize(seed: int = 0, mode: str = "linear") -> Graph:
    """A Resize by two and a half."""
    b = Builder(seed)
    scales = np.array([1, 1, 2.5, 2.5], np.float32)
    x = b.input((2, 3, 6, 6))
    return b.build(b.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="half_pixel"))


def concat(seed: int = 0) -> Graph:
    """Two branches of equal shape put together."""
    b = Builder(seed)
    x = b.input((2, 4, 6, 6))
    return b.build(b.op("Concat", b.op("Sigmoid", x), b.op("Tanh", x), axis=1))


def clip(seed: int = 0, opset: int = 17) -> Graph:
    """Relu6 as Clip; inputs reach beyond 6."""
    b = Builder(seed, opset)
    x = b.op("Mul", b.input((2, 4, 6, 6)), np.array([6.0], np.float32))
    bounds = (np.array(0, np.float32), np.array(6, np.float32))
    return b.build(b.op("Clip", x, *bounds) if opset >= 11 else b.op("Clip", x, min=0.0, max=6.0))


def leaky(seed: int = 0, op: str = "LeakyRelu", alpha: float = 0.3) -> Graph:
    """A LeakyRelu or Elu."""
    b = Builder(seed)
    return b.build(b.op(op, b.input((2, 4, 6, 6)), alpha=alpha))


def prelu(seed: int = 0) -> Graph:
    """A PRelu with a slope per channel."""
    b = Builder(seed)
    return b.build(b.op("PRelu", b.input((2, 4, 6, 6)), b.normal(4, 1, 1, scale=0.2)))


def softmax(seed: int = 0) -> Graph:
    """A Softmax over the channels of a map."""
    b = Builder(seed)
    return b.build(b.op("Softmax", b.input((2, 5, 4, 4)), axis=1))


def flatten_gemm(seed: int = 0) -> Graph:
    """Flatten of a map into a fully connected layer."""
    b = Builder(seed)
    x = b.op("Flatten", b.op("Relu", b.input((2, 3, 4, 4))), axis=1)
    return b.build(b.op("Gemm", x, b.weight(7, 48), b.normal(7), transB=1))


def flatten_nhwc(seed: int = 0) -> Graph:
    """Transpose to NHWC, flatten, fully connected: what a Keras model looks like in ONNX."""
    b = Builder(seed)
    x = b.op("Transpose", b.op("Relu", b.input((2, 3, 4, 4))), perm=NHWC)
    x = b.op("Reshape", x, np.array([2, 48], np.int64))
    return b.build(b.op("MatMul", x, b.weight(48, 7)))


def conv_nhwc(seed: int = 0) -> Graph:
    """A convolution between Transposes: input and output NHWC."""
    b = Builder(seed)
    x = b.op("Transpose", b.input((2, 8, 8, 4)), perm=NCHW)
    x = b.op("Conv", x, b.weight(6, 4, 3, 3), b.normal(6), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    return b.build(b.op("Transpose", x, perm=NHWC))


def pad_conv(seed: int = 0) -> Graph:
    """Pad, then a convolution without pads."""
    b = Builder(seed)
    x = b.op("Pad", b.input((2, 4, 8, 8)), np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))
    return b.build(b.op("Conv", x, b.weight(6, 4, 3, 3), b.normal(6), kernel_shape=(3, 3), strides=(2, 2)))


def transposed(seed: int = 0) -> Graph:
    """A Transpose of equal dims between convolutions."""
    b = Builder(seed)
    x = b.op("Transpose", b.input((2, 4, 6, 6)), perm=(0, 1, 3, 2))
    return b.build(b.op("Conv", x, b.weight(6, 4, 3, 3), b.normal(6), kernel_shape=(3, 3), pads=(1, 1, 1, 1)))


ZOO: dict[str, Callable[[int], Graph]] = {
    f.__name__: f for f in (
        conv, conv_same, conv_strided, conv_dilated, conv_bn, batchnorm, depthwise, gemm, matmul_add, pooling,
        max_pooling, resize, concat, clip, leaky, prelu, softmax, flatten_gemm, flatten_nhwc, conv_nhwc, pad_conv,
        transposed,
    )
}
