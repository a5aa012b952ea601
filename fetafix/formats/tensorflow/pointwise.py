"""ONNX operators that compute each entry by itself, and products with matrices, in TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from fetafix.formats.tensorflow.call import Call, Handler

_UNARY = {"Abs": "abs", "Ceil": "ceil", "Cos": "cos", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Log": "log",
         "Neg": "negative", "Not": "logical_not", "Reciprocal": "reciprocal", "Round": "round", "Sigmoid": "sigmoid",
         "Sign": "sign", "Sin": "sin", "Softplus": "softplus", "Sqrt": "sqrt", "Tanh": "tanh"}
_VARIADIC = {"Add": "add", "And": "logical_and", "Div": "divide", "Equal": "equal", "Greater": "greater",
             "GreaterOrEqual": "greater_equal", "Less": "less", "LessOrEqual": "less_equal", "Max": "maximum",
             "Min": "minimum", "Mul": "multiply", "Or": "logical_or", "Pow": "pow", "Sub": "subtract"}


def _unary(name: str) -> Handler:
    return lambda call: getattr(call.tf.math, name)(call.inputs[0])


def _variadic(name: str) -> Handler:
    return lambda call: functools.reduce(getattr(call.tf.math, name), call.inputs)


def _batch_normalization(call: Call) -> Any:
    """With the statistics given, or in training mode with those of the batch."""
    tf, x = call.tf, call.inputs[0]
    shape = [1, -1, *[1] * (call.rank() - 2)]
    scale, bias, mean, variance = (tf.reshape(i, shape) for i in call.inputs[1:5])
    if call.attr("training_mode", 0):
        axes = [i for i in range(call.rank()) if i != 1]
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, bias, scale, call.attr("epsilon", 1e-5))


def _gemm(call: Call) -> Any:
    """A · B, scaled, plus C, scaled."""
    tf = call.tf
    y = tf.linalg.matmul(call.inputs[0], call.inputs[1], bool(call.attr("transA", 0)), bool(call.attr("transB", 0)))
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    bias = call.input(2)
    return y if bias is None else y + (bias if beta == 1.0 else bias * beta)


def _clip(call: Call) -> Any:
    """Bounds by inputs or, in older operator sets, by attributes."""
    y = call.inputs[0]
    for slot, name, bound in ((1, "min", call.tf.maximum), (2, "max", call.tf.minimum)):
        limit = call.input(slot) if call.input(slot) is not None else call.attr(name)
        y = y if limit is None else bound(y, limit)
    return y


def _softmax(call: Call) -> Any:
    """Over one axis."""
    return call.tf.nn.softmax(call.inputs[0], call.attr("axis", -1))


def _leaky_relu(call: Call) -> Any:
    """LeakyRelu."""
    return call.tf.nn.leaky_relu(call.inputs[0], call.attr("alpha", 0.01))


def _elu(call: Call) -> Any:
    """Elu of any alpha."""
    x = call.inputs[0]
    return call.tf.where(x > 0, x, call.attr("alpha", 1.0) * call.tf.math.expm1(x))


def _hard_sigmoid(call: Call) -> Any:
    """A line between 0 and 1."""
    line = call.attr("alpha", 0.2) * call.inputs[0] + call.attr("beta", 0.5)
    return call.tf.clip_by_value(line, 0.0, 1.0)


def _prelu(call: Call) -> Any:
    """A slope below 0."""
    x = call.inputs[0]
    return call.tf.where(x > 0, x, x * call.inputs[1])


def _numpy_dtype(number: int) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(number)


HANDLERS: Mapping[str, Handler] = {
    **{op: _unary(name) for op, name in _UNARY.items()}, **{op: _variadic(name) for op, name in _VARIADIC.items()},
    "BatchNormalization": _batch_normalization,
    "Cast": lambda c: c.tf.cast(c.inputs[0], c.tf.as_dtype(_numpy_dtype(c.attr("to")))), "Clip": _clip,
    "Dropout": lambda c: c.tf.identity(c.inputs[0]), "Elu": _elu, "Gemm": _gemm, "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda c: c.inputs[0] * c.tf.clip_by_value(c.inputs[0] / 6 + 0.5, 0.0, 1.0),
    "Identity": lambda c: c.tf.identity(c.inputs[0]), "LeakyRelu": _leaky_relu,
    "LogSoftmax": lambda c: c.tf.nn.log_softmax(c.inputs[0], c.attr("axis", -1)),
    "MatMul": lambda c: c.tf.linalg.matmul(c.inputs[0], c.inputs[1]), "PRelu": _prelu,
    "Relu": lambda c: c.tf.nn.relu(c.inputs[0]), "Selu": lambda c: c.tf.nn.selu(c.inputs[0]), "Softmax": _softmax,
    "Softsign": lambda c: c.tf.nn.softsign(c.inputs[0]), "Sum": lambda c: c.tf.add_n(list(c.inputs)),
    "Where": lambda c: c.tf.where(*c.inputs),
}  # fmt: skip
