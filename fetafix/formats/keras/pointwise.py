"""ONNX operators that compute each entry by itself, as Keras layers: arithmetic, normalisation, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.maker import Handler, Maker, applied, keras_layers, number
from fetafix.ir import Array, Node

_MERGE = {"Add": "Add", "Sum": "Add", "Sub": "Subtract", "Mul": "Multiply", "Max": "Maximum", "Min": "Minimum"}
_OPS = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum",
        "Pow": "power"}  # fmt: skip


def _normalisation(maker: Maker, node: Node) -> Laid:
    if node.attrs.get("training_mode"):
        raise Unsupported("a normalisation by the batch's own statistics is no inference")
    x = maker.input(node).last
    epsilon: Any = node.attrs.get("epsilon", 1e-5)
    layer = keras_layers().BatchNormalization(axis=-1, epsilon=float(epsilon))
    return Laid(applied(layer, x.tensor, *(maker.needed(node, i) for i in (1, 2, 3, 4))), x.perm)


def _layer_norm(maker: Maker, node: Node) -> Laid:
    x, scale, bias = maker.input(node).plain, maker.needed(node, 1), maker.constant(node, 2)
    epsilon: Any = node.attrs.get("epsilon", 1e-5)
    if int(node.attrs.get("axis", -1)) % len(x.perm) != len(x.perm) - 1:  # type: ignore[arg-type]
        raise Unsupported("LayerNormalization over several axes")
    layer = keras_layers().LayerNormalization(axis=-1, epsilon=float(epsilon), center=bias is not None)
    return Laid(applied(layer, x.tensor, scale, bias), x.perm)


def _binary(maker: Maker, node: Node) -> Laid:
    import keras

    constants = [maker.constant(node, i) for i in range(len(node.inputs))]
    if any(c is not None for c in constants):
        return _with_constant(maker, node, constants)
    xs = [maker.input(node, i) for i in range(len(node.inputs))]
    if len({len(x.perm) for x in xs}) > 1:
        xs = [x.plain for x in xs]
        perm = max((x.perm for x in xs), key=len)
        return Laid(getattr(keras.ops, _OPS[node.op])(*(x.tensor for x in xs)), perm)
    xs = [x.turned(xs[0].perm) for x in xs]
    if node.op in _MERGE:
        return Laid(getattr(keras_layers(), _MERGE[node.op])()([x.tensor for x in xs]), xs[0].perm)
    return Laid(getattr(keras.ops, _OPS[node.op])(*(x.tensor for x in xs)), xs[0].perm)


def _with_constant(maker: Maker, node: Node, constants: Sequence[Array | None]) -> Laid:
    """X · a + b: a number is a Rescaling, one for each channel a BatchNormalization, anything else an operation."""
    import keras

    if len(constants) != 2 or all(c is not None for c in constants):
        raise Unsupported(f"{node.op} of several constants has no Keras layer")
    slot = 0 if constants[0] is None else 1
    x, c = maker.input(node, slot), np.asarray(constants[1 - slot])
    rank = len(x.perm)
    if c.ndim > rank:
        raise Unsupported(f"{node.op} with a constant of more dimensions")
    full = c.reshape((1,) * (rank - c.ndim) + c.shape)
    linear = _linear(node.op, full, slot)
    wide = [i for i, n in enumerate(full.shape) if n > 1]
    if linear is not None and not wide:
        scale, offset = (float(v.reshape(-1)[0]) for v in linear)
        return Laid(keras_layers().Rescaling(scale, offset)(x.tensor), x.perm)
    if linear is not None and len(wide) == 1 and wide[0] > 0:
        x = x.turned((*(p for p in x.perm if p != wide[0]), wide[0])) if x.perm[-1] != wide[0] else x
        return Laid(_per_channel(x.tensor, *(v.reshape(-1) for v in linear)), x.perm)
    held = np.transpose(full, x.perm)
    pair = (x.tensor, held) if slot == 0 else (held, x.tensor)
    return Laid(getattr(keras.ops, _OPS[node.op])(*pair), x.perm)


def _linear(op: str, c: Array, slot: int) -> tuple[Array, Array] | None:
    """(a, b) with which the operator is x · a + b; None where it is nothing of the kind."""
    one, zero = np.ones_like(c), np.zeros_like(c)
    if c.dtype.kind != "f":
        return None
    table = {
        ("Add", 0): (one, c), ("Add", 1): (one, c), ("Mul", 0): (c, zero), ("Mul", 1): (c, zero),
        ("Sub", 0): (one, -c), ("Sub", 1): (-one, c),
    }  # fmt: skip
    if op == "Div" and slot == 0 and np.all(c):
        return one / c, zero
    return table.get((op, slot))


def _per_channel(x: Any, scale: Array, offset: Array) -> Any:
    """A normalisation with mean 0 and variance 1 − ε, whose square root with ε is exactly 1."""
    epsilon = 2.0**-10
    layer = keras_layers().BatchNormalization(axis=-1, epsilon=epsilon)
    size = scale.size
    variance = np.full(size, 1 - epsilon, np.float32)
    return applied(layer, x, scale, offset, np.zeros(size, np.float32), variance)


def _clip(maker: Maker, node: Node) -> Laid:
    x = maker.input(node)
    low, high = (maker.constant(node, i) for i in (1, 2))
    lower, upper = (None if v is None else float(v.reshape(())) for v in (low, high))
    if lower is None and upper is None:
        return x
    if lower == 0 and (upper is None or upper >= 0):
        limit = None if upper is None or upper > 3e38 else upper
        return Laid(keras_layers().ReLU(max_value=limit)(x.tensor), x.perm)
    return Laid(_bounded(x.tensor, lower, upper), x.perm)


def _bounded(x: Any, lower: float | None, upper: float | None) -> Any:
    """min(max(x, l), u) by ReLU, which every version of Keras has: l + ReLU(x − l) up to u − l, or u − ReLU(u − x)."""
    keras = keras_layers()
    if lower is None:
        assert upper is not None
        return keras.Rescaling(-1.0, upper)(keras.ReLU()(keras.Rescaling(-1.0, upper)(x)))
    span = None if upper is None or upper > 3e38 else upper - lower
    return keras.Rescaling(1.0, lower)(keras.ReLU(max_value=span)(keras.Rescaling(1.0, -lower)(x)))


def _prelu(maker: Maker, node: Node) -> Laid:
    x, slope = maker.input(node).last, maker.needed(node, 1)
    rank = len(x.perm)
    full = np.transpose(slope.reshape((1,) * (rank - slope.ndim) + slope.shape), x.perm)[0]
    shared = [i + 1 for i, n in enumerate(full.shape) if n == 1]
    return Laid(applied(keras_layers().PReLU(shared_axes=shared or None), x.tensor, full), x.perm)


def _layer(make: Callable[[Node], Any]) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        x = maker.input(node)
        return Laid(make(node)(x.tensor), x.perm)

    return convert


def _activation(name: str) -> Callable[[Maker, Node], Laid]:
    return _layer(lambda node: keras_layers().Activation(name))


def _operation(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        import keras

        x = maker.input(node)
        return Laid(getattr(keras.ops, name)(x.tensor), x.perm)

    return convert


def _softmax(maker: Maker, node: Node) -> Laid:
    x = maker.input(node)
    axis: Any = node.attrs.get("axis", -1)
    return Laid(keras_layers().Softmax(axis=x.perm.index(axis % len(x.perm)))(x.tensor), x.perm)


def _cast(maker: Maker, node: Node) -> Laid:
    import keras

    x = maker.input(node)
    return Laid(keras.ops.cast(x.tensor, str(maker.values[node.outputs[0]].dtype)), x.perm)


def _hard_sigmoid(maker: Maker, node: Node) -> Laid:
    """α · x + β between 0 and 1: a Rescaling and a bounded ReLU."""
    x = maker.input(node)
    scaled = keras_layers().Rescaling(number(node, "alpha", 0.2), number(node, "beta", 0.5))(x.tensor)
    return Laid(keras_layers().ReLU(max_value=1.0)(scaled), x.perm)


HANDLERS: Mapping[str, Handler] = {
    "BatchNormalization": _normalisation, "LayerNormalization": _layer_norm,
    **dict.fromkeys((*_OPS, "Sum"), _binary), "Clip": _clip, "PRelu": _prelu,
    "Relu": _layer(lambda node: keras_layers().ReLU()),
    "LeakyRelu": _layer(lambda node: keras_layers().LeakyReLU(negative_slope=number(node, "alpha", 0.01))),
    "Elu": _layer(lambda node: keras_layers().ELU(alpha=number(node, "alpha", 1.0))),
    "Sigmoid": _activation("sigmoid"), "Tanh": _activation("tanh"), "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"), "Selu": _activation("selu"), "Exp": _activation("exponential"),
    "HardSwish": _activation("hard_silu"), "Gelu": _activation("gelu"), "Mish": _activation("mish"),
    "HardSigmoid": _hard_sigmoid, "Softmax": _softmax, "LogSoftmax": _activation("log_softmax"),
    "Abs": _operation("abs"), "Neg": _operation("negative"), "Sqrt": _operation("sqrt"), "Log": _operation("log"),
    "Erf": _operation("erf"), "Floor": _operation("floor"), "Ceil": _operation("ceil"), "Sin": _operation("sin"),
    "Cos": _operation("cos"), "Reciprocal": _operation("reciprocal"), "Sign": _operation("sign"), "Cast": _cast,
}  # fmt: skip
