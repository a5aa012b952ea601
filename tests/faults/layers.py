"""Small image models around one layer in question: convolution, pooling, resizing, normalisation, in several forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fetafix.ir import Graph
from tests.faults.support import NCHW, NHWC, Builder

CHANNELS = 8
Part = Callable[[Builder, str], str]


def model(part: Part, *, size: int = 10, opset: int = 17, seed: int = 0, channels: int = CHANNELS) -> Graph:
    """A convolution, the part (which keeps the channels), and a pooled classifier."""
    b = Builder(seed, opset)
    x = b.op("Conv", b.input((2, 3, size, size)), b.weight(channels, 3, 1, 1), b.normal(channels), kernel_shape=(1, 1))
    x = conv(b, part(b, x), channels, pads=(0, 0, 0, 0))
    x = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", x)), axis=1)
    return b.build(b.op("Gemm", x, b.weight(6, channels), b.normal(6), transB=1))


def conv(b: Builder, x: str, channels: int = CHANNELS, kernel: int = 3, **attrs: Any) -> str:
    """A convolution that keeps the channels."""
    return b.op("Conv", x, b.weight(channels, channels, kernel, kernel), b.normal(channels, scale=0.3),
                kernel_shape=(kernel, kernel), **attrs)


def single(op: str, *constants: Any, **attrs: Any) -> Part:
    """One operator with constants behind its data input."""
    return lambda b, x: b.op(op, x, *constants, **attrs)


def pads(top: int, left: int, bottom: int, right: int) -> np.ndarray[Any, Any]:
    """Amounts of a Pad over the last two axes."""
    return np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)


def channels_last(part: Part) -> Part:
    """A part between Transposes to NHWC and back, as channels-last frameworks have it."""
    return lambda b, x: b.op("Transpose", part(b, b.op("Transpose", x, perm=NHWC)), perm=NCHW)


# ---------------------------------------------------------------- windows


def strided(**attrs: Any) -> Part:
    """A convolution of stride 2."""
    return lambda b, x: conv(b, x, strides=(2, 2), **attrs)


def pool(op: str = "MaxPool", kernel: int = 3, stride: int = 2, **attrs: Any) -> Part:
    """A pooling."""
    return single(op, kernel_shape=(kernel, kernel), strides=(stride, stride), **attrs)


def bottleneck(first: int, second: int) -> Part:
    """A 1×1 and a 3×3 convolution with these strides, as in a ResNet's bottleneck."""
    def part(b: Builder, x: str) -> str:
        x = b.op("Relu", conv(b, x, kernel=1, strides=(first, first)))
        return b.op("Relu", conv(b, x, strides=(second, second), pads=(1, 1, 1, 1)))
    return part


def transposed_conv(sliced: tuple[int, int] | None = None, last: bool = False, apart: bool = False, **attrs: Any
                    ) -> Part:
    """A transposed convolution of stride 2, cropped by a Slice from `sliced[0]` for `sliced[1]` pixels.

    last: channels last there. apart: a Slice for each axis.
    """
    def part(b: Builder, x: str) -> str:
        x = b.op("ConvTranspose", x, b.weight(CHANNELS, CHANNELS, 3, 3), b.normal(CHANNELS), kernel_shape=(3, 3),
                 strides=(2, 2), **attrs)
        if sliced is None:
            return x
        start, size = sliced
        bounds = [np.array([v, v], np.int64) for v in (start, start + size)]
        axes = np.array([1, 2] if last else [2, 3], np.int64)
        x = b.op("Transpose", x, perm=NHWC) if last else x
        for cut in ([slice(0, 1), slice(1, 2)] if apart else [slice(0, 2)]):
            x = b.op("Slice", x, *(v[cut] for v in bounds), axes[cut])
        return b.op("Transpose", x, perm=NCHW) if last else x
    return part


# ---------------------------------------------------------------- resizing


def resize(scale: float | tuple[int, int], **attrs: Any) -> Part:
    """A Resize by a scale, or to sizes (the batch is 2)."""
    def part(b: Builder, x: str) -> str:
        if isinstance(scale, tuple):
            return b.op("Resize", x, "", "", np.array([2, CHANNELS, *scale], np.int64), **attrs)
        return b.op("Resize", x, "", np.array([1, 1, scale, scale], np.float32), **attrs)
    return part


def resize_computed(size: int, **attrs: Any) -> Part:
    """A Resize to sizes of which batch and channels are taken from the map's Shape, as exporters do."""
    def part(b: Builder, x: str) -> str:
        first = b.op("Slice", b.op("Shape", x), np.array([0], np.int64), np.array([2], np.int64))
        sizes = b.op("Concat", first, np.array([size, size], np.int64), axis=0)
        return b.op("Resize", x, "", "", sizes, **attrs)
    return part


def upsample(scale: float, mode: str) -> Part:
    """An Upsample of operator set 9."""
    return single("Upsample", np.array([1, 1, scale, scale], np.float32), mode=mode)


def grid_sample(**attrs: Any) -> Part:
    """A GridSample whose fixed grid bends the map, and leaves it a little."""
    rng = np.random.default_rng(3)
    y, x = np.meshgrid(*[np.linspace(-1.15, 1.15, 9)] * 2, indexing="ij")
    grid = np.stack([x, y], -1)[None] + rng.normal(0, 0.05, (1, 9, 9, 2))
    return lambda b, t: b.op("GridSample", t, np.repeat(grid, 2, 0).astype(np.float32), **attrs)


# ---------------------------------------------------------------- normalisation


def instance_norm(epsilon: float = 1e-5) -> Part:
    """An InstanceNormalization of a map that varies little in some channels."""
    def part(b: Builder, x: str) -> str:
        x = b.op("Mul", x, np.geomspace(0.01, 1, CHANNELS, dtype=np.float32).reshape(CHANNELS, 1, 1))
        return b.op("InstanceNormalization", x, b.normal(CHANNELS, mean=1, scale=0.5), b.normal(CHANNELS),
                    epsilon=epsilon)
    return part


def group_norm(groups: int, form: str = "reshape", epsilon: float = 1e-5) -> Part:
    """A group normalisation of 8 channels as "operator" (set 21), or "reshape": Reshapes, Mul and Add.

    Wrong ones: "collapsed", the scales of the groups' first channels between Reshapes; "older", the same in set 18.
    """
    def part(b: Builder, x: str) -> str:
        x = b.op("Mul", x, np.geomspace(0.01, 1, CHANNELS, dtype=np.float32).reshape(CHANNELS, 1, 1))
        scale, bias = b.normal(CHANNELS, mean=1, scale=0.5), b.normal(CHANNELS)
        if form == "operator":
            return b.op("GroupNormalization", x, scale, bias, num_groups=groups, epsilon=epsilon)
        first = [v.reshape(groups, -1)[:, 0].copy() for v in (scale, bias)]
        if form == "older":
            return b.op("GroupNormalization", x, *first, num_groups=groups, epsilon=epsilon)
        inner = first if form == "collapsed" else [np.ones(groups, np.float32), np.zeros(groups, np.float32)]
        x = b.op("Reshape", x, np.array([0, groups, -1], np.int64))
        x = b.op("InstanceNormalization", x, *inner, epsilon=epsilon)
        x = b.op("Reshape", x, np.array([0, CHANNELS, 10, 10], np.int64))
        if form == "collapsed":
            return x
        return b.op("Add", b.op("Mul", x, scale.reshape(CHANNELS, 1, 1)), bias.reshape(CHANNELS, 1, 1))
    return part


# ---------------------------------------------------------------- activations


def hard_sigmoid(form: str, alpha: float = 1 / 6) -> Part:
    """x · HardSigmoid(x) as "operator", "gate" (HardSigmoid, Mul), or "clip" (Add, Clip, Mul, as Keras writes it)."""
    def part(b: Builder, x: str) -> str:
        x = b.op("Mul", x, np.array(3, np.float32))
        if form == "operator":
            return b.op("HardSwish", x)
        if form == "gate":
            return b.op("Mul", x, b.op("HardSigmoid", x, alpha=alpha, beta=0.5))
        y = b.op("Clip", b.op("Add", x, np.array(3, np.float32)), np.array(0, np.float32), np.array(6, np.float32))
        return b.op("Mul", x, b.op("Mul", y, np.array(alpha, np.float32)))
    return part


def elu(form: str, alpha: float) -> Part:
    """An Elu as "operator", or "select" as TensorFlow writes it: where x > 0 x, else α · elu(x)."""
    def part(b: Builder, x: str) -> str:
        if form == "operator":
            return b.op("Elu", x, alpha=alpha)
        y = b.op("Mul", b.op("Elu", x), np.array(alpha, np.float32))
        return b.op("Where", b.op("Greater", x, np.array(0, np.float32)), x, y)
    return part


def lrn(form: str = "operator", alpha: float = 0.5, size: int = 5, bias: float = 1.0) -> Part:
    """An LRN as "operator", or "spelled" as torch's exporter does: x / (k + α · mean of squares)^β."""
    def part(b: Builder, x: str) -> str:
        if form == "operator":
            return b.op("LRN", x, size=size, alpha=alpha, beta=0.75, bias=bias)
        y = b.op("Unsqueeze", b.op("Mul", x, x), np.array([1], np.int64))
        y = b.op("AveragePool", y, kernel_shape=(size, 1, 1), pads=(size // 2, 0, 0, size // 2, 0, 0),
                 count_include_pad=1)
        y = b.op("Mul", b.op("Squeeze", y, np.array([1], np.int64)), np.array(alpha, np.float32))
        y = b.op("Pow", b.op("Add", y, np.array(bias, np.float32)), np.array(0.75, np.float32))
        return b.op("Div", x, y)
    return part
