"""ONNX layers (convolutions, pooling, matrix products, softmax, resizing) as TFLite operators, channels last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fetafix.formats import tflite_pointwise
from fetafix.formats.base import Unsupported
from fetafix.formats.tflite_options import NONE, integer, ints, number, padding, resize, same_pads, windows
from fetafix.formats.tflite_tensors import Value, requantised
from fetafix.ir import Array, Node

if TYPE_CHECKING:
    from fetafix.formats.tflite_fragment import Translator

_LOWEST = float(np.finfo(np.float32).min)


def _conv(t: Translator, node: Node, bias: str = "") -> Value:
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
    added = _bias(t, bias or node.input(2), weight[0], source.tensor, kernel)
    return t.emit(name, [source.tensor, kernel, added], _named(t, node, bias), source.perm, options)


def _named(t: Translator, node: Node, bias: str) -> str:
    """The tensor that an operator makes: that of the Add behind it where its bias is taken in."""
    if not bias:
        return node.outputs[0]
    user = t.alone(node.outputs[0])
    return user.outputs[0] if user is not None else node.outputs[0]


def _bias(t: Translator, name: str, size: int, source: int, kernel: int) -> int:
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
        inputs.append(_bias(t, node.input(2), out[1], source.tensor, kernel))
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


def _matmul(t: Translator, node: Node, bias: str = "") -> Value:
    left, right = node.input(0), node.input(1)
    if t.is_constant(right) and len(t.shape(right)) == 2 and len(t.shape(left)) > 1:
        return _fully(t, node, t.weight(right, lambda w: w.T), bias, t.shape(right)[1])
    if t.quantised() or bias:
        raise Unsupported(f"{node.label}: a product of two activations in codes")
    a, b = t.onnx_layout(left), t.onnx_layout(right)
    return t.emit("BATCH_MATMUL", [a.tensor, b.tensor], node.outputs[0], range(len(t.shape(node.outputs[0]))),
                  {"adjX": False, "adjY": False})  # fmt: skip


def _gemm(t: Translator, node: Node) -> Value:
    if integer(node, "transA", 0) or not t.is_constant(node.input(1)):
        raise Unsupported(f"{node.label}: only products with a constant matrix on the right")
    alpha, beta, bias = number(node, "alpha", 1.0), number(node, "beta", 1.0), node.input(2)
    if (alpha, beta) != (1, 1) and t.quantised():
        raise Unsupported(f"{node.label}: a product in codes that is scaled")
    turned, factor = integer(node, "transB", 0), np.float32(alpha)
    weight = t.weight(node.input(1), lambda w: (w if turned else w.T) * (factor if alpha != 1 else w.dtype.type(1)))
    size, plain = t.shape(node.input(1))[0 if turned else 1], {"fusedActivationFunction": NONE}
    if not bias or (t.is_constant(bias) and beta == 1 and t.samples[bias].size in (1, size)):
        return _fully(t, node, weight, bias, size)
    made = _fully(t, node, weight, "", size)
    addend = t.onnx_layout(bias).tensor
    if beta != 1:
        scale = t.program.add_constant(np.array(beta, np.float32), f"{node.key}_beta")
        addend = t.emit("MUL", [addend, scale], bias, range(len(t.shape(bias))), plain).tensor
    return t.emit("ADD", [made.tensor, addend], node.outputs[0], made.perm, plain)


def _fully(t: Translator, node: Node, weight: int, bias: str, size: int) -> Value:
    source = t.onnx_layout(node.input(0))
    inputs = [source.tensor, weight]
    inputs.append(_bias(t, bias, size, source.tensor, weight) if bias else -1)
    options = {"fusedActivationFunction": NONE, "keepNumDims": len(t.shape(node.input(0))) > 2}
    name = _named(t, node, bias if node.op == "MatMul" else "")
    return t.emit("FULLY_CONNECTED", inputs, name, range(len(t.shape(node.outputs[0]))), options)


def _add(t: Translator, node: Node) -> Value:
    """An addition; the bias of the layer before it where it is one."""
    for slot in (0, 1):
        inner, bias = t.fragment.producers.get(node.input(slot)), node.input(1 - slot)
        if inner is None or not t.is_constant(bias) or t.alone(node.input(slot)) is not node or len(node.inputs) != 2:
            continue
        channels = t.shape(node.outputs[0])[1 if inner.op == "Conv" else -1]
        shape = t.shape(bias)
        flat = [n for n in shape if n != 1] in ([channels], [] if channels == 1 else [channels])
        if inner.op == "MatMul" and flat and shape[-1] == channels and t.is_constant(inner.input(1)):
            t.hand_down(node, inner.outputs[0])
            return _matmul(t, inner, bias)
        if inner.op == "Conv" and not inner.input(2) and flat and len(shape) > 2 and shape[-3] == channels:
            return _conv(t, inner, bias)
    return tflite_pointwise.HANDLERS["Add"](t, node)


def _softmax(t: Translator, node: Node) -> Value:
    rank = len(t.shape(node.input(0)))
    modern = t.fragment.opset.get("", 13) >= 13
    axis = integer(node, "axis", -1 if modern else 1) % rank
    if not modern and axis != rank - 1:
        raise Unsupported(f"{node.label}: Softmax over several axes at once")
    source = t.value(node.input(0))
    if source.perm[axis] != rank - 1:  # TFLite normalises the last axis
        order = [i for i in range(rank) if i != axis] + [axis]
        source = t.shaped(source, np.argsort(order).tolist(), node.input(0))
    if node.op == "LogSoftmax":
        return t.emit("LOG_SOFTMAX", [source.tensor], node.outputs[0], source.perm)
    return t.emit("SOFTMAX", [source.tensor], node.outputs[0], source.perm, {"beta": 1.0})


def _resize(t: Translator, node: Node) -> Value:
    name, options = resize(node)
    if len(t.shape(node.input(0))) != 4 or t.shape(node.input(0))[:2] != t.shape(node.outputs[0])[:2]:
        raise Unsupported(f"{node.label}: TFLite resizes the two spatial axes of images")
    source = t.channels_last(node.input(0))
    size = t.program.add_constant(np.array(t.shape(node.outputs[0])[2:], np.int32), f"{node.key}_size")
    return t.emit(name, [source.tensor, size], node.outputs[0], source.perm, options)


_REDUCERS = {
    "ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD", "GlobalAveragePool": "MEAN", "GlobalMaxPool": "REDUCE_MAX",
}  # fmt: skip


def _reduce(t: Translator, node: Node) -> Value:
    rank, source = len(t.shape(node.input(0))), t.value(node.input(0))
    keep = bool(integer(node, "keepdims", 1))
    given: Any = t.parameter(node, 1) if node.input(1) else node.attrs.get("axes")
    if node.op.startswith("Global"):
        given = range(2, rank)
    axes = [int(a) % rank for a in (range(rank) if given is None else np.asarray(given).reshape(-1))]
    native = np.array(sorted(source.perm[a] for a in axes), np.int32)
    out = node.outputs[0]
    perm = source.perm
    if not keep:
        left = [p for i, p in enumerate(source.perm) if i not in axes]
        perm = tuple(sorted(left).index(p) for p in left)
    name = t.program.add_constant(native, f"{out}_axes")
    return t.emit(_REDUCERS[node.op], [source.tensor, name], out, perm, {"keepDims": keep})


HANDLERS: Mapping[str, Callable[[Translator, Node], Value]] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _pool, "AveragePool": _pool, "MatMul": _matmul,
    "Gemm": _gemm, "Add": _add, "Softmax": _softmax, "LogSoftmax": _softmax, "Resize": _resize,
    **dict.fromkeys(_REDUCERS, _reduce),
}  # fmt: skip
