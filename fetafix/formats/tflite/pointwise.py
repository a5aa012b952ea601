"""ONNX operators that work element by element, as TFLite operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import grids as tflite_grids
from fetafix.formats.tflite.options import NONE, RELU, RELU6, RELU_N1_TO_1, number
from fetafix.formats.tflite.schema import dtype_of
from fetafix.formats.tflite.tensors import Value, requantised
from fetafix.ir import Array, Node

if TYPE_CHECKING:
    from fetafix.formats.tflite.fragment import Translator

_UNARY = {
    "Relu": "RELU", "Tanh": "TANH", "Sigmoid": "LOGISTIC", "Exp": "EXP", "Log": "LOG", "Sqrt": "SQRT", "Neg": "NEG",
    "Abs": "ABS", "Floor": "FLOOR", "Ceil": "CEIL", "Round": "ROUND", "Sin": "SIN", "Cos": "COS",
    "HardSwish": "HARD_SWISH", "Sign": "SIGN",
}  # fmt: skip
_BINARY = {
    "Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Pow": "POW", "Max": "MAXIMUM", "Min": "MINIMUM",
    "Sum": "ADD",
}  # fmt: skip
_CLIPS = {RELU: "RELU", RELU6: "RELU6", RELU_N1_TO_1: "RELU_N1_TO_1"}


def _unary(t: Translator, node: Node) -> Value:
    source = t.value(node.input(0))
    return t.emit(_UNARY[node.op], [source.tensor], node.outputs[0], source.perm)


def _clip(t: Translator, node: Node) -> Value:
    t.hand_down(node, node.input(0))
    source = t.value(node.input(0))
    code, (low, high) = t.clip(node), t.bounds(node)
    if code == NONE:
        return source
    if code is not None:
        return t.emit(_CLIPS[code], [source.tensor], node.outputs[0], source.perm)
    if low == 0:
        source = t.emit("RELU", [source.tensor], node.outputs[0], source.perm)
    elif low is not None and np.isfinite(low):
        source = t.emit("MAXIMUM", [source.tensor, _bound(t, low, source)], node.outputs[0], source.perm)
    if high is not None and np.isfinite(high):
        source = t.emit("MINIMUM", [source.tensor, _bound(t, high, source)], node.outputs[0], source.perm)
    return source


def _bound(t: Translator, value: float, source: Value) -> int:
    """A bound as a constant, on the grid of what it bounds."""
    grid, dtype = t.program.quantisation(source.tensor), dtype_of(t.program.tensors[source.tensor])
    if grid is None or dtype is None:
        return _scalar(t, value)
    return t.program.add_constant(requantised(np.array(value, np.float32), grid, dtype), "fetafix_bound", grid)


def _scalar(t: Translator, value: float) -> int:
    return t.program.add_constant(np.array(value, np.float32), "fetafix_constant")


def _leaky(t: Translator, node: Node) -> Value:
    source = t.value(node.input(0))
    options = {"alpha": number(node, "alpha", 0.01)}
    return t.emit("LEAKY_RELU", [source.tensor], node.outputs[0], source.perm, options)


def _prelu(t: Translator, node: Node) -> Value:
    source, slope = t.channels_last(node.input(0)), t.constant(node, 1)
    if slope is None:
        raise Unsupported(f"{node.label} has a computed slope")
    native = native_constant(slope, source.perm)
    alpha = t.program.add_constant(np.ascontiguousarray(native[0]) if native.ndim == 4 else native, node.input(1))
    return t.emit("PRELU", [source.tensor, alpha], node.outputs[0], source.perm)


def _elu(t: Translator, node: Node) -> Value:
    alpha = number(node, "alpha", 1.0)
    source, out = t.value(node.input(0)), node.outputs[0]
    if alpha == 1.0:
        return t.emit("ELU", [source.tensor], out, source.perm)
    positive = t.emit("RELU", [source.tensor], out, source.perm)
    curve = t.emit("ELU", [source.tensor], out, source.perm)
    negative = t.emit("MINIMUM", [curve.tensor, _scalar(t, 0.0)], out, source.perm)
    scaled = t.emit("MUL", [negative.tensor, _scalar(t, alpha)], out, source.perm, {"fusedActivationFunction": NONE})
    return t.emit("ADD", [positive.tensor, scaled.tensor], out, source.perm, {"fusedActivationFunction": NONE})


def _hard_sigmoid(t: Translator, node: Node) -> Value:
    source, out = t.value(node.input(0)), node.outputs[0]
    alpha, beta = number(node, "alpha", 0.2), number(node, "beta", 0.5)
    plain = {"fusedActivationFunction": NONE}
    scaled = t.emit("MUL", [source.tensor, _scalar(t, alpha)], out, source.perm, plain)
    moved = t.emit("ADD", [scaled.tensor, _scalar(t, beta)], out, source.perm, {"fusedActivationFunction": RELU})
    return t.emit("MINIMUM", [moved.tensor, _scalar(t, 1.0)], out, source.perm)


def _binary(t: Translator, node: Node) -> Value:
    result = _pair(t, node, node.input(0), node.input(1)) if len(node.inputs) > 1 else t.value(node.input(0))
    for more in node.inputs[2:]:
        sides = [result.tensor, _operand(t, more, result, node.outputs[0])]
        result = t.emit(_BINARY[node.op], sides, node.outputs[0], result.perm, _plain(node.op))
    return result


def _plain(op: str) -> Mapping[str, Any]:
    return {"fusedActivationFunction": NONE} if op in ("Add", "Sub", "Mul", "Div", "Sum") else {}


def _pair(t: Translator, node: Node, first: str, second: str) -> Value:
    if t.quantised() and node.op not in ("Add", "Sub", "Mul", "Max", "Min"):
        raise Unsupported(f"{node.label}: TFLite computes {node.op} in real numbers only")
    out, rank = node.outputs[0], len(t.shape(node.outputs[0]))
    leading = first if t.constant(node, 0) is None and len(t.shape(first)) == rank else second
    base = t.value(leading)
    if len(base.perm) != rank:
        raise Unsupported(f"{node.label} broadcasts both its operands")
    sides = [_operand(t, name, base, out) for name in (first, second)]
    grid = t.program.quantisation(base.tensor)
    if grid is not None and node.op in ("Max", "Min"):  # these compare codes, so all are put on one grid
        goal = t.wanted(out) or (grid, dtype_of(t.program.tensors[base.tensor]) or np.dtype(np.int8))
        pairs = zip(sides, (first, second), strict=True)
        sides = [t.on_grid(Value(s, base.perm), *goal, name).tensor for s, name in pairs]
    return t.emit(_BINARY[node.op], sides, out, base.perm, _plain(node.op))


def _operand(t: Translator, name: str, base: Value, out: str) -> int:
    """An operand in the layout of `base`, broadcast axes in front added."""
    perm = base.perm
    if t.is_constant(name):
        dtype = dtype_of(t.program.tensors[base.tensor])
        return constant_operand(t, name, perm, dtype if t.program.quantisation(base.tensor) is not None else None)
    value = t.value(name)
    if len(value.perm) < len(perm):
        lifted = t.shaped(value, range(len(value.perm)), name)
        shape = (1,) * (len(perm) - len(value.perm)) + t.shape(name)
        sizes = t.program.add_constant(np.array(shape, np.int32), f"{name}_shape")
        value = t.emit("RESHAPE", [lifted.tensor, sizes], name, tuple(range(len(perm))), {"newShape": None}, shape)
    return t.shaped(value, perm, name).tensor


def constant_operand(t: Translator, name: str, perm: tuple[int, ...], codes: np.dtype[Any] | None) -> int:
    """A constant that broadcasts against a value in layout `perm`; as codes of a type where that value is in codes."""
    node = t.fragment.producers.get(name)
    rank = len(perm)

    def turn(array: Array) -> Array:
        native = native_constant(array, perm)
        while native.ndim > 1 and native.shape[0] == 1:
            native = native[0]
        return native.reshape(()) if native.size == 1 and array.ndim == 0 else native

    if node is not None and node.op == "DequantizeLinear":
        return t.weight(name, turn)
    array = t.samples[name].astype(np.int32) if t.samples[name].dtype == np.int64 else t.samples[name]
    if array.ndim > rank:
        raise Unsupported(f"{name} has more axes than what it is combined with")
    if codes is not None and array.dtype.kind == "f":
        held, grid = tflite_grids.of_constant(np.ascontiguousarray(turn(array)), codes)
        return t.program.add_constant(held, name, grid)
    return t.program.add_constant(np.ascontiguousarray(turn(array)), name)


def native_constant(array: Array, perm: tuple[int, ...]) -> Array:
    """A constant in ONNX's order as it lies beside a native value: onnx = native.transpose(perm)."""
    full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
    return np.asarray(full.transpose(np.argsort(perm)))


def _batch_normalisation(t: Translator, node: Node) -> Value:
    if node.attrs.get("training_mode"):
        raise Unsupported(f"{node.label}: TFLite has no normalisation by the batch's own statistics")
    parts = [t.constant(node, i) for i in range(1, 5)]
    if any(p is None for p in parts):
        raise Unsupported(f"{node.label} has computed parameters")
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parts)
    scale = gamma / np.sqrt(variance + number(node, "epsilon", 1e-5))
    source, out = t.channels_last(node.input(0)), node.outputs[0]
    plain = {"fusedActivationFunction": NONE}
    factor = t.program.add_constant(scale.astype(np.float32), f"{out}_scale")
    offset = t.program.add_constant((beta - mean * scale).astype(np.float32), f"{out}_offset")
    scaled = t.emit("MUL", [source.tensor, factor], out, source.perm, plain)
    return t.emit("ADD", [scaled.tensor, offset], out, source.perm, plain)


def _cast(t: Translator, node: Node) -> Value:
    if np.float16 in (t.samples[node.input(0)].dtype, t.samples[node.outputs[0]].dtype):
        raise Unsupported(f"{node.label}: TFLite's kernels do not compute in float16")
    source = t.value(node.input(0))
    if t.samples[node.outputs[0]].dtype == t.samples[node.input(0)].dtype:
        return source
    return t.emit("CAST", [source.tensor], node.outputs[0], source.perm)


def _reciprocal(t: Translator, node: Node) -> Value:
    source = t.value(node.input(0))
    plain = {"fusedActivationFunction": NONE}
    return t.emit("DIV", [_scalar(t, 1.0), source.tensor], node.outputs[0], source.perm, plain)


HANDLERS: Mapping[str, Callable[[Translator, Node], Value]] = {
    **dict.fromkeys(_UNARY, _unary), **dict.fromkeys(_BINARY, _binary), "Clip": _clip, "LeakyRelu": _leaky,
    "PRelu": _prelu, "Elu": _elu, "HardSigmoid": _hard_sigmoid, "BatchNormalization": _batch_normalisation,
    "Cast": _cast, "Reciprocal": _reciprocal,
}  # fmt: skip
