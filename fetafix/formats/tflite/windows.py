"""ONNX convolutions and poolings as TFLite operators, channels last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite.options import NONE, integer, ints, padding, same_pads, windows
from fetafix.formats.tflite.tensors import Value, requantised
from fetafix.ir import Array, Node

if TYPE_CHECKING:
    from fetafix.formats.tflite.fragment import Translator

_LOWEST = float(np.finfo(np.float32).min)


def conv(t: Translator, node: Node, bias_name: str = "") -> Value:
    """A convolution, with another tensor than its own for a bias where one is named."""
    weight, size = t.shape(node.input(1)), t.shape(node.input(0))[2:]
    if len(weight) != 4 or not t.is_constant(node.input(1)):
        raise Unsupported(f"{node.label}: TFLite convolves maps of two dimensions with constant kernels")
    group, channels = integer(node, "group", 1), t.shape(node.input(0))[1]
    strides, dilations, pads = windows(node, size, weight[2:])
    mode = padding(size, weight[2:], strides, dilations, pads)
    source = t.channels_last(node.input(0))
    if mode is None:
        source, mode = _padded(t, source, pads, node.input(0)), {"padding": 1}
    options = {**mode, "strideH": strides[0], "strideW": strides[1], "dilationHFactor": dilations[0],
               "dilationWFactor": dilations[1], "fusedActivationFunction": NONE}  # fmt: skip
    if group == channels and group > 1 and weight[1] == 1:
        kernel = t.weight(node.input(1), lambda w: w.transpose(1, 2, 3, 0), 3)
        options["depthMultiplier"] = weight[0] // group
        name = "DEPTHWISE_CONV_2D"
    else:
        kernel, name = t.weight(node.input(1), lambda w: w.transpose(0, 2, 3, 1)), "CONV_2D"
    added = bias_of(t, bias_name or node.input(2), weight[0], source.tensor, kernel)
    return t.emit(name, [source.tensor, kernel, added], named(t, node, bias_name), source.perm, options)


def named(t: Translator, node: Node, added: str) -> str:
    """The tensor that an operator makes: that of the Add behind it where its bias is taken in."""
    if not added:
        return node.outputs[0]
    user = t.alone(node.outputs[0])
    return user.outputs[0] if user is not None else node.outputs[0]


def bias_of(t: Translator, name: str, size: int, source: int, kernel: int) -> int:
    """A layer's bias, zeros where it has none; in codes in steps of input scale × weight scale."""
    if name and not t.is_constant(name):
        raise Unsupported(f"{name}: TFLite wants constant biases")
    grids = [t.program.quantisation(i) for i in (source, kernel)]
    if grids[0] is None or grids[1] is None:
        if name:
            return t.weight(name, lambda b: np.broadcast_to(b.reshape(-1), (size,)))
        return t.program.add_constant(np.zeros(size, np.float32), "fetafix_bias")
    steps = np.atleast_1d(grids[0][0] * grids[1][0]).astype(np.float32)
    node = t.fragment.producers.get(name)
    if node is not None and node.op == "DequantizeLinear" and np.array_equal(t.samples[node.input(1)].ravel(), steps):
        return t.weight(name, lambda b: b.reshape(-1))
    values = np.broadcast_to(t.samples[name].reshape(-1), (size,)) if name else np.zeros(size, np.float32)
    grid = (steps, np.zeros(steps.size, np.int64), 0)
    codes = requantised(np.ascontiguousarray(values), grid, np.dtype(np.int32))
    return t.program.add_constant(codes, name or "fetafix_bias", grid)


def _padded(
    t: Translator, source: Value, pads: Sequence[tuple[int, int]], name: str, fill: float | None = None
) -> Value:
    """Spatial pads (a pair an axis) around a channels-last value; zeros, or `fill`."""
    rows = np.array([(0, 0), *pads, (0, 0)], np.int32)
    if (rows < 0).any():
        raise Unsupported(f"{name}: negative pads")
    shape = [n + a + b for n, (a, b) in zip(t.program.shape(source.tensor), rows.tolist(), strict=True)]
    paddings = t.program.add_constant(rows, f"{name}_pads")
    if fill is None:
        return t.emit("PAD", [source.tensor, paddings], name, source.perm, shape=shape)
    value = t.program.add_constant(np.array(fill, np.float32), "fetafix_constant")
    return t.emit("PADV2", [source.tensor, paddings, value], name, source.perm, shape=shape)


def _conv_transpose(t: Translator, node: Node) -> Value:
    weight, size = t.shape(node.input(1)), t.shape(node.input(0))[2:]
    if len(weight) != 4 or integer(node, "group", 1) != 1 or set(ints(node, "dilations", (1, 1))) != {1}:
        raise Unsupported(f"{node.label}: TFLite has no transposed convolution in groups, dilated or of other ranks")
    strides, out = ints(node, "strides", (1, 1)), t.shape(node.outputs[0])
    source = t.channels_last(node.input(0))
    kernel = t.weight(node.input(1), lambda w: w.transpose(1, 2, 3, 0))
    before = _crops(node, weight[2:], strides, size, out[2:])
    full = [(n - 1) * s + k for n, s, k in zip(size, strides, weight[2:], strict=True)]
    same = same_pads(out[2:], weight[2:], strides, (1, 1))
    options = {"strideH": strides[0], "strideW": strides[1]}
    fits = [-(-o // s) for o, s in zip(out[2:], strides, strict=True)] == list(size)
    if fits and [a for a, _ in same] == before:
        shape, options["padding"] = [out[0], *out[2:], out[1]], 0
    else:
        shape, options["padding"] = [out[0], *full, out[1]], 1
    sizes = t.program.add_constant(np.array(shape, np.int32), f"{node.key}_size")
    inputs = [sizes, kernel, source.tensor]
    if node.input(2):
        inputs.append(bias_of(t, node.input(2), out[1], source.tensor, kernel))
    made = t.emit("TRANSPOSE_CONV", inputs, node.outputs[0], source.perm, options, shape=shape)
    if options["padding"] == 0:
        return made
    return _cropped(t, made, before, out[2:], node)


def _crops(
    node: Node, kernel: Sequence[int], strides: Sequence[int], size: Sequence[int], out: Sequence[int]
) -> list[int]:
    """How much of the full product lies before the output, an axis."""
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID") and node.attrs.get("output_shape") is None:
        return list(ints(node, "pads", (0, 0, 0, 0))[:2])
    extra = ints(node, "output_padding", (0, 0))
    totals = [
        s * (n - 1) + e + k - o for s, n, e, k, o in zip(strides, size, extra, kernel, out, strict=True)
    ]
    return [t - t // 2 if mode != "SAME_UPPER" else t // 2 for t in totals]


def _cropped(t: Translator, made: Value, before: Sequence[int], out: Sequence[int], node: Node) -> Value:
    full = t.program.shape(made.tensor)
    if list(full[1:3]) == list(out):
        return made
    behind = [max(0, b + o - n) for b, o, n in zip(before, out, full[1:3], strict=True)]
    if any(behind):
        made = _padded(t, made, [(0, b) for b in behind], node.outputs[0])
    begin, end = [0, *before, 0], [full[0], *(b + o for b, o in zip(before, out, strict=True)), full[3]]
    consts = [t.program.add_constant(np.array(v, np.int32), f"{node.key}_crop") for v in (begin, end, [1] * 4)]
    return t.emit("STRIDED_SLICE", [made.tensor, *consts], node.outputs[0], made.perm,
                  {"beginMask": 0b1001, "endMask": 0b1001})  # fmt: skip


def _pool(t: Translator, node: Node) -> Value:
    size, kernel = t.shape(node.input(0))[2:], ints(node, "kernel_shape", ())
    if len(size) != 2:
        raise Unsupported(f"{node.label}: TFLite pools maps of two dimensions")
    strides, dilations, pads = windows(node, size, kernel)
    if set(dilations) != {1}:
        raise Unsupported(f"{node.label}: TFLite has no dilated pooling")
    mean = node.op == "AveragePool"
    source, correction = t.channels_last(node.input(0)), None
    mode = padding(size, kernel, strides, dilations, pads)
    counted = mean and any(map(any, pads)) and integer(node, "count_include_pad", 0)
    if mode is None or counted:
        fill = None if mean else _LOWEST
        if t.quantised() and (not mean or not counted):
            raise Unsupported(f"{node.label}: these pads need other numbers than the codes have")
        source, mode = _padded(t, source, pads, node.input(0), fill), {"padding": 1}
        correction = None if counted or not mean else _counts(size, kernel, strides, pads)
    options = {**mode, "strideH": strides[0], "strideW": strides[1], "filterHeight": kernel[0],
               "filterWidth": kernel[1], "fusedActivationFunction": NONE}  # fmt: skip
    name = "AVERAGE_POOL_2D" if mean else "MAX_POOL_2D"
    made = t.emit(name, [source.tensor], node.outputs[0], source.perm, options)
    if correction is None:
        return made
    factor = t.program.add_constant(correction, f"{node.key}_counts")
    return t.emit("MUL", [made.tensor, factor], node.outputs[0], made.perm, {"fusedActivationFunction": NONE})


def _counts(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[tuple[int, int]]
) -> Array:
    """(1, H, W, 1): window area by the number of its elements that are no padding."""
    factors = []
    for n, k, s, (a, b) in zip(size, kernel, strides, pads, strict=True):
        inside = np.array([a <= i < a + n for i in range(n + a + b)])
        counts = [inside[i : i + k].sum() for i in range(0, n + a + b - k + 1, s)]
        factors.append(k / np.array(counts, np.float64))
    return np.asarray(np.outer(*factors)[None, :, :, None], np.float32)


HANDLERS: Mapping[str, Callable[[Translator, Node], Value]] = {
    "Conv": conv, "ConvTranspose": _conv_transpose, "MaxPool": _pool, "AveragePool": _pool,
}  # fmt: skip
