"""Small whole models that offer a place to every graph fault, and the same models as another converter writes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fetafix.ir import Array, Graph
from tests.faults.support import NCHW, NHWC, Builder


def _conv(b: Builder, x: str, ins: int, outs: int) -> str:
    return b.op("Conv", x, b.weight(outs, ins, 3, 3), b.normal(outs, scale=0.3), kernel_shape=(3, 3), pads=(1, 1, 1, 1))


def _open(graph: Graph) -> Graph:
    return replace(graph, inputs=tuple(replace(v, shape=("N", *(v.shape or ())[1:])) for v in graph.inputs))


def residual(seed: int = 0, *, act: str = "Relu", end: str = "Softmax", channels: int = 6, **attrs: float) -> Graph:
    """Two residual blocks with batch normalisation, pooling, and a classifier."""
    b = Builder(seed)
    x = b.op("Relu", b.batchnorm(_conv(b, b.input((2, 3, 12, 12), "image"), 3, channels), channels))
    for _ in range(2):
        y = b.batchnorm(_conv(b, x, channels, channels), channels)
        y = b.op("PRelu", y, b.normal(channels, 1, 1, scale=0.3)) if act == "PRelu" else b.op(act, y, **attrs)
        x = b.op("Relu", b.op("Add", _conv(b, y, channels, channels), x))
    x = b.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    x = b.op("Flatten", b.op("GlobalAveragePool", _conv(b, x, channels, channels)), axis=1)
    x = b.op("Gemm", x, b.weight(10, channels), b.normal(10), transB=1)
    return _open(b.build(b.op(end, x, axis=1) if end else x))


def residual_nhwc(seed: int = 0) -> Graph:
    """`residual` as a channels-last framework writes it: Transposes around every convolution, the rest in NHWC."""
    b = Builder(seed)
    channels = 6

    def conv(x: str, ins: int) -> str:
        return b.op("Transpose", _conv(b, b.op("Transpose", x, perm=NCHW), ins, channels), perm=NHWC)

    def norm(x: str) -> str:
        return b.op("Transpose", b.batchnorm(b.op("Transpose", x, perm=NCHW), channels), perm=NHWC)

    x = b.op("Relu", norm(conv(b.input((2, 12, 12, 3), "image"), 3)))
    for _ in range(2):
        y = b.op("Relu", norm(conv(x, channels)))
        x = b.op("Relu", b.op("Add", conv(y, channels), x))
    x = b.op("MaxPool", b.op("Transpose", x, perm=NCHW), kernel_shape=(2, 2), strides=(2, 2))
    x = b.op("Transpose", x, perm=NHWC)
    x = b.op("ReduceMean", conv(x, channels), axes=(1, 2), keepdims=0)
    x = b.op("Gemm", x, b.weight(10, channels), b.normal(10), transB=1)
    return _open(b.build(b.op("Softmax", x, axis=1)))


def arithmetic(seed: int = 0) -> Graph:
    """A map centred, divided and multiplied by another branch, and a square MatMul: operands in an order."""
    b = Builder(seed)
    x = _conv(b, b.input((2, 3, 8, 8), "image"), 3, 4)
    y = b.op("Add", b.op("Sigmoid", _conv(b, x, 4, 4)), np.array(0.5, np.float32))
    x = b.op("Div", b.op("Sub", x, b.op("Tanh", y)), y)
    x = b.op("MatMul", x, b.op("Relu", _conv(b, x, 4, 4)))
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return _open(b.build(b.op("Gemm", x, b.weight(7, 4), b.normal(7), transB=1)))


def gated(seed: int = 0) -> Graph:
    """Swish spelled x · Sigmoid(x), squeeze and excitation, HardSwish, average pooling."""
    b = Builder(seed)
    x = _conv(b, b.input((2, 3, 12, 12), "image"), 3, 6)
    x = b.op("Mul", x, b.op("Sigmoid", x))
    s = b.op("Relu", b.op("Conv", b.op("GlobalAveragePool", x), b.weight(4, 6, 1, 1), kernel_shape=(1, 1)))
    s = b.op("Sigmoid", b.op("Conv", s, b.weight(6, 4, 1, 1), kernel_shape=(1, 1)))
    x = b.op("HardSwish", _conv(b, b.op("Mul", x, s), 6, 6))
    x = b.op("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2))
    x = b.op("Flatten", x, axis=1)
    return _open(b.build(b.op("Gemm", x, b.weight(5, 216), b.normal(5), transB=1)))


def heads(seed: int = 0) -> Graph:
    """Two outputs of the same shape from one body, in the way of detectors."""
    b = Builder(seed)
    x = b.op("Relu", _conv(b, b.input((2, 3, 8, 8), "image"), 3, 6))
    return _open(b.build(_conv(b, x, 6, 4), b.op("Sigmoid", _conv(b, x, 6, 4))))


def renamed(graph: Graph, prefix: str = "v_") -> Graph:
    """The same graph with every tensor and node named otherwise."""
    def new(t: str) -> str:
        return t and f"{prefix}{t}"

    tensors: dict[str, Array] = {new(k): v for k, v in graph.initializers.items()}
    nodes = tuple(replace(n, inputs=tuple(map(new, n.inputs)), outputs=tuple(map(new, n.outputs)), name=new(n.name))
                  for n in graph.nodes)
    return Graph(nodes, tensors, tuple(replace(v, name=new(v.name)) for v in graph.inputs),
                 tuple(replace(v, name=new(v.name)) for v in graph.outputs), graph.opset,
                 {new(k): v for k, v in graph.shapes.items()})
