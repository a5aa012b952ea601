"""ONNX matrix products, biases, softmax, resizing and reductions as TFLite operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import pointwise as tflite_pointwise
from fetafix.formats.tflite.options import NONE, integer, number, resize
from fetafix.formats.tflite.tensors import Value
from fetafix.formats.tflite.windows import bias_of, conv, named

if TYPE_CHECKING:
    from fetafix.formats.tflite.fragment import Translator
    from fetafix.ir import Node


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
    inputs.append(bias_of(t, bias, size, source.tensor, weight) if bias else -1)
    options = {"fusedActivationFunction": NONE, "keepNumDims": len(t.shape(node.input(0))) > 2}
    name = named(t, node, bias if node.op == "MatMul" else "")
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
            return conv(t, inner, bias)
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
    "MatMul": _matmul, "Gemm": _gemm, "Add": _add, "Softmax": _softmax, "LogSoftmax": _softmax, "Resize": _resize,
    **dict.fromkeys(_REDUCERS, _reduce),
}  # fmt: skip
