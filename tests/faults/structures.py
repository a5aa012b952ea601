"""Small whole models in which shapes hide mistakes of structure: channels as many as rows, groups, depth to space."""

from __future__ import annotations

import numpy as np

from fetafix.ir import Array, Graph
from tests.faults.support import NCHW, NHWC, Builder

PADS = (1, 1, 1, 1)


def conv(b: Builder, x: str, ins: int, outs: int, kernel: int = 3, bias: bool = True, **attrs: object) -> str:
    """A convolution that keeps the size unless told otherwise."""
    group = int(attrs.get("group", 1))  # type: ignore[call-overload]
    reach = kernel // 2
    more = {"pads": (reach,) * 4, **attrs}
    inputs: list[str | Array] = [x, b.weight(outs, ins // group, kernel, kernel)]
    return b.op("Conv", *inputs, *([b.normal(outs, scale=0.3)] if bias else []), kernel_shape=(kernel, kernel), **more)


def end(b: Builder, x: str, channels: int, classes: int = 7) -> Graph:
    """Pooled and classified."""
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return b.build(b.op("Gemm", x, b.weight(classes, channels), b.normal(classes), transB=1))


def cube(seed: int = 0) -> Graph:
    """As many channels as rows and columns, three layers, the middle one between Transposes."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 6, 6)), 3, 6))
    x = b.op("Transpose", b.op("Sigmoid", b.op("Transpose", x, perm=NHWC)), perm=NCHW)
    x = b.op("Relu", conv(b, x, 6, 6))
    x = b.op("MaxPool", x, kernel_shape=(3, 3), pads=PADS)
    return end(b, conv(b, x, 6, 5), 5)


def axes(seed: int = 0) -> Graph:
    """Reductions, a running sum, a Gather, an ArgMax-free head; channels as many as rows and columns."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 6, 6)), 3, 6))
    mean = b.op("ReduceMean", x, axes=(1,), keepdims=1)
    x = b.op("Sub", x, mean)
    top = b.op("ReduceMax", x, axes=(2,), keepdims=0)
    y = b.op("Relu", conv(b, x, 6, 6))
    y = b.op("Gather", y, np.array([5, 4, 3, 2, 1, 0], np.int64), axis=1)
    y = b.op("Flatten", b.op("GlobalMaxPool", conv(b, y, 6, 8)), axis=1)
    top = b.op("Flatten", top, axis=1)
    return b.build(b.op("Gemm", b.op("Concat", y, top, axis=1), b.weight(9, 44), b.normal(9), transB=1))


def joined(seed: int = 0) -> Graph:
    """A Concat of two branches whose result is flattened."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 4, 4)), 3, 4))
    y = b.op("Concat", conv(b, x, 4, 4), b.op("Tanh", conv(b, x, 4, 4)), axis=1)
    return b.build(b.op("Gemm", b.op("Flatten", y, axis=1), b.weight(5, 128), b.normal(5), transB=1))


def upscaler(seed: int = 0, mode: str = "CRD", channels: int = 2, opset: int = 17) -> Graph:
    """A small super-resolution network that ends in depth to space."""
    b = Builder(seed, opset)
    x = b.op("Relu", conv(b, b.input((2, 3, 5, 5)), 3, 6))
    x = conv(b, x, 6, channels * 4)
    attrs = {"mode": mode} if opset >= 11 else {}
    x = b.op("DepthToSpace", x, blocksize=2, **attrs)
    return b.build(conv(b, x, channels, 3))


def upscaler_written_out(seed: int = 0, mode: str = "CRD", channels: int = 2) -> Graph:
    """The same with depth to space as Reshape, Transpose, Reshape."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 5, 5)), 3, 6))
    x = conv(b, x, 6, channels * 4)
    split = (2, channels, 2, 2, 5, 5) if mode == "CRD" else (2, 2, 2, channels, 5, 5)
    perm = (0, 1, 4, 2, 5, 3) if mode == "CRD" else (0, 3, 4, 1, 5, 2)
    x = b.op("Transpose", b.op("Reshape", x, np.array(split, np.int64)), perm=perm)
    x = b.op("Reshape", x, np.array((2, channels, 10, 10), np.int64))
    return b.build(conv(b, x, channels, 3))


def slopes(seed: int = 0) -> Graph:
    """PRelu with a slope per channel, and a scale and shift per channel; channels as many as rows and columns."""
    b = Builder(seed)
    x = conv(b, b.input((2, 3, 6, 6)), 3, 6)
    x = b.op("PRelu", x, b.normal(6, 1, 1, scale=0.3, mean=0.2))
    x = b.op("Mul", b.op("Sigmoid", conv(b, x, 6, 6)), b.normal(6, 1, 1, mean=1.0, scale=0.4))
    x = b.op("Add", b.op("Tanh", x), b.normal(1, 6, 1, 1))
    return end(b, b.op("Relu", conv(b, x, 6, 6)), 6)


def same_padded(seed: int = 0, node: bool = False) -> Graph:
    """Strided convolutions padded at the end only, as TensorFlow does; `node`: by a Pad in front."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 16, 16)), 3, 4))
    for ins, outs in ((4, 6), (6, 6)):
        if node:
            x = b.op("Pad", x, np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))
        pads = (0, 0, 0, 0) if node else (0, 0, 1, 1)
        x = b.op("Relu", conv(b, x, ins, outs, strides=(2, 2), pads=pads))
    return b.build(b.op("Gemm", b.op("Flatten", x, axis=1), b.weight(5, 96), b.normal(5), transB=1))


def separable(seed: int = 0) -> Graph:
    """Depthwise convolutions with multiplier 3, then a pointwise one."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 8, 8)), 3, 4))
    x = b.op("Relu", conv(b, x, 4, 12, group=4))
    x = b.op("Relu", conv(b, x, 12, 4, kernel=1))
    x = b.op("Relu", conv(b, x, 4, 8, group=4, bias=False))
    return end(b, conv(b, x, 8, 5, kernel=1), 5)


def grouped(seed: int = 0) -> Graph:
    """Grouped convolutions with normalisation, as in ResNeXt."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 8, 8)), 3, 8))
    x = b.op("Relu", b.batchnorm(conv(b, x, 8, 12, group=4), 12))
    x = b.op("Relu", conv(b, x, 12, 8, group=2))
    return end(b, conv(b, x, 8, 5, kernel=1), 5)


def stacked(seed: int = 0) -> Graph:
    """Layers of equal shapes, whose tensors can take one another's place."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 8, 8)), 3, 6))
    for _ in range(3):
        x = b.op("Relu", b.batchnorm(conv(b, x, 6, 6), 6))
    return end(b, conv(b, x, 6, 6, kernel=1), 6)


def tokens(seed: int = 0) -> Graph:
    """Matrices that are not square, and a table of positions."""
    b = Builder(seed)
    x = b.op("Add", b.input((2, 5, 8)), b.normal(1, 5, 8))
    x = b.op("Tanh", b.op("Add", b.op("MatMul", x, b.weight(8, 12)), b.normal(12)))
    x = b.op("ReduceMean", b.op("MatMul", x, b.weight(12, 6)), axes=(1,), keepdims=0)
    return b.build(b.op("Gemm", x, b.weight(4, 6), b.normal(4), transB=1))


def padded(seed: int = 0) -> Graph:
    """Padded layers before global pooling, and others whose size matters."""
    b = Builder(seed)
    x = b.op("Relu", conv(b, b.input((2, 3, 8, 8)), 3, 4))
    x = b.op("Relu", conv(b, x, 4, 6, strides=(2, 2)))
    x = b.op("MaxPool", x, kernel_shape=(3, 3), pads=PADS, strides=(1, 1))
    return end(b, b.op("Relu", conv(b, x, 6, 6)), 6)


def mixer(seed: int = 0) -> Graph:
    """Tokens: a residual branch with a gate x · σ(x), normalised, then a gate before a mean, of operator set 17."""
    b = Builder(seed)
    x = b.op("Add", b.op("MatMul", b.input((2, 5, 8)), b.weight(8, 8)), b.normal(8))
    y = b.op("MatMul", x, b.normal(8, 16, scale=0.5))
    y = b.op("MatMul", b.op("Mul", y, b.op("Sigmoid", y)), b.normal(16, 8, scale=0.5))
    x = b.op("LayerNormalization", b.op("Add", x, y), b.normal(8, mean=1.0, scale=0.2), b.normal(8, scale=0.2))
    z = b.op("MatMul", x, b.normal(8, 8, scale=0.5))
    z = b.op("ReduceMean", b.op("Mul", z, b.op("Sigmoid", z)), axes=(1,), keepdims=0)
    return b.build(b.op("Gemm", z, b.weight(6, 8), b.normal(6), transB=1))
