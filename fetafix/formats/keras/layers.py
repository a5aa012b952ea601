"""ONNX operators as Keras layers: one small function an operator, in a table by the operator's name.

Layers are preferred to `keras.ops`, for every version and container of Keras reads them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.settings import window, word
from fetafix.ir import Array, Graph, Node

Perm = tuple[int, ...]
_SELECTION = 1 << 22


@dataclass(frozen=True, eq=False, slots=True)
class Laid:
    """A Keras tensor that is its ONNX twin transposed by `perm`."""

    tensor: Any
    perm: Perm

    def turned(self, perm: Perm) -> Laid:
        """The same value in another layout."""
        import keras

        turn = tuple(self.perm.index(p) for p in perm)
        if turn == tuple(range(len(turn))):
            return self
        if turn[0] == 0:
            return Laid(keras.layers.Permute(turn[1:])(self.tensor), perm)
        return Laid(keras.ops.transpose(self.tensor, turn), perm)

    @property
    def plain(self) -> Laid:
        """In ONNX's layout."""
        return self.turned(tuple(range(len(self.perm))))

    @property
    def last(self) -> Laid:
        """With the channels (ONNX's axis 1) last."""
        return self.turned(channels_last(len(self.perm)))


def channels_last(rank: int) -> Perm:
    """From ONNX's layout to that of Keras."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


class Maker:
    """What the conversion of one node may ask for: its inputs, its constants, the values it has on the example."""

    def __init__(self, fragment: Graph, values: Mapping[str, Array], made: Mapping[str, Laid]) -> None:
        self._fragment, self._made = fragment, made
        self.values = values

    def input(self, node: Node, slot: int = 0) -> Laid:
        """A computed input. Raises Unsupported where it is a constant."""
        laid = self._made.get(node.input(slot))
        if laid is None:
            raise Unsupported(f"{node.op} of a constant has no Keras layer")
        return laid

    def constant(self, node: Node, slot: int) -> Array | None:
        """A constant input, or None."""
        name = node.input(slot)
        return self.values[name] if name and name not in self._made else None

    def needed(self, node: Node, slot: int) -> Array:
        """A constant input. Raises Unsupported where it is computed."""
        value = self.constant(node, slot)
        if value is None:
            raise Unsupported(f"{node.op} with a computed input {slot} has no Keras layer")
        return value

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of the node's output on the example."""
        return self.values[node.outputs[0]].shape


def applied(layer: Any, inputs: Any, *weights: Array | None) -> Any:
    """The layer's output, its weights set (those given)."""
    made = layer(inputs)
    given = [np.ascontiguousarray(w) for w in weights if w is not None]
    if given:
        layer.set_weights(given)
    return made


def _layers() -> Any:
    import keras

    return keras.layers


def _class(name: str, rank: int) -> Any:
    if not 3 <= rank <= 5:
        raise Unsupported(f"Keras has no {name} for tensors of {rank} dimensions")
    found = getattr(_layers(), f"{name}{rank - 2}D", None)
    if found is None:
        raise Unsupported(f"Keras has no {name}{rank - 2}D")
    return found


def _padded(x: Any, pads: Sequence[int], value: float = 0.0) -> Any:
    """The tensor (channels last) with pads (all begins, then all ends) on its spatial axes."""
    import keras

    if min(pads, default=0) < 0:
        raise Unsupported("negative pads have no Keras layer")
    rank = len(pads) // 2
    pairs = [(int(pads[i]), int(pads[rank + i])) for i in range(rank)]
    if value:
        return keras.ops.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=value)
    return _class("ZeroPadding", rank + 2)(pairs[0] if rank == 1 else tuple(pairs))(x)


def _windowed(x: Laid, node: Node, kernel: Sequence[int], fill: float = 0.0) -> tuple[Any, dict[str, Any]]:
    """(the tensor, perhaps padded; strides and padding as Keras has them)."""
    if node.attrs.get("ceil_mode"):
        raise Unsupported("sizes rounded up have no Keras layer")
    strides, dilations, _ = window(node, node.attrs, len(kernel))
    padding = word(node.attrs, x.tensor.shape[1:-1], kernel, strides, dilations)
    tensor = x.tensor
    if padding is None:
        if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise Unsupported(f"padding {node.attrs['auto_pad']!r} has no Keras layer")
        tensor, padding = _padded(tensor, node.attrs["pads"], fill), "valid"  # type: ignore[arg-type]
    return tensor, {"strides": tuple(strides), "padding": padding}


def _conv(maker: Maker, node: Node) -> Laid:
    x, weight, bias = maker.input(node).last, maker.needed(node, 1), maker.constant(node, 2)
    group: Any = node.attrs.get("group", 1)
    rank, kernel = weight.ndim, weight.shape[2:]
    tensor, options = _windowed(x, node, kernel)
    dilations = window(node, node.attrs, rank - 2)[1]
    options.update(kernel_size=tuple(kernel), use_bias=bias is not None, dilation_rate=tuple(dilations))
    channels = weight.shape[1] * group
    if group == channels and group > 1 and rank in (3, 4):
        depth = weight.shape[0] // channels
        layer = _class("DepthwiseConv", rank)(depth_multiplier=depth, **options)
        folded = weight.reshape(channels, depth, *kernel)
        native = np.transpose(folded, (*range(2, rank), 0, 1))
    else:
        layer = _class("Conv", rank)(weight.shape[0], groups=group, **options)
        native = np.transpose(weight, (*range(2, rank), 1, 0))
    return Laid(applied(layer, tensor, native, bias), x.perm)


def _normalisation(maker: Maker, node: Node) -> Laid:
    if node.attrs.get("training_mode"):
        raise Unsupported("a normalisation by the batch's own statistics is no inference")
    x = maker.input(node).last
    epsilon: Any = node.attrs.get("epsilon", 1e-5)
    layer = _layers().BatchNormalization(axis=-1, epsilon=float(epsilon))
    return Laid(applied(layer, x.tensor, *(maker.needed(node, i) for i in (1, 2, 3, 4))), x.perm)


def _layer_norm(maker: Maker, node: Node) -> Laid:
    x, scale, bias = maker.input(node).plain, maker.needed(node, 1), maker.constant(node, 2)
    epsilon: Any = node.attrs.get("epsilon", 1e-5)
    if int(node.attrs.get("axis", -1)) % len(x.perm) != len(x.perm) - 1:  # type: ignore[arg-type]
        raise Unsupported("LayerNormalization over several axes")
    layer = _layers().LayerNormalization(axis=-1, epsilon=float(epsilon), center=bias is not None)
    return Laid(applied(layer, x.tensor, scale, bias), x.perm)


def _dense(x: Laid, weight: Array, bias: Array | None) -> Laid:
    if weight.ndim != 2:
        raise Unsupported("a product with more than one matrix has no Keras layer")
    layer = _layers().Dense(weight.shape[1], use_bias=bias is not None)
    flat = None if bias is None else np.broadcast_to(np.asarray(bias).reshape(-1), (weight.shape[1],))
    return Laid(applied(layer, x.tensor, weight, flat), x.perm)


def _matmul(maker: Maker, node: Node) -> Laid:
    import keras

    x, weight = maker.input(node).plain, maker.constant(node, 1)
    if weight is None:
        y = maker.input(node, 1).plain
        return Laid(keras.ops.matmul(x.tensor, y.tensor), x.perm)
    return _dense(x, weight, None)


def _gemm(maker: Maker, node: Node) -> Laid:
    x, weight, bias = maker.input(node).plain, maker.needed(node, 1), maker.constant(node, 2)
    if node.attrs.get("transA") or (bias is None and node.input(2)):
        raise Unsupported("Gemm of a transposed input, or with a computed bias")
    weight = weight.T if node.attrs.get("transB") else weight
    alpha, beta = (np.float32(node.attrs.get(k, 1.0)) for k in ("alpha", "beta"))  # type: ignore[arg-type]
    return _dense(x, weight * alpha, None if bias is None else bias * beta)


_MERGE = {"Add": "Add", "Sum": "Add", "Sub": "Subtract", "Mul": "Multiply", "Max": "Maximum", "Min": "Minimum"}
_OPS = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum",
        "Pow": "power"}  # fmt: skip


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
        return Laid(getattr(_layers(), _MERGE[node.op])()([x.tensor for x in xs]), xs[0].perm)
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
        return Laid(_layers().Rescaling(scale, offset)(x.tensor), x.perm)
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
    layer = _layers().BatchNormalization(axis=-1, epsilon=epsilon)
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
        return Laid(_layers().ReLU(max_value=limit)(x.tensor), x.perm)
    return Laid(_bounded(x.tensor, lower, upper), x.perm)


def _bounded(x: Any, lower: float | None, upper: float | None) -> Any:
    """min(max(x, l), u) by ReLU, which every version of Keras has: l + ReLU(x − l) up to u − l, or u − ReLU(u − x)."""
    keras = _layers()
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
    return Laid(applied(_layers().PReLU(shared_axes=shared or None), x.tensor, full), x.perm)


def _layer(make: Callable[[Node], Any]) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        x = maker.input(node)
        return Laid(make(node)(x.tensor), x.perm)

    return convert


def _activation(name: str) -> Callable[[Maker, Node], Laid]:
    return _layer(lambda node: _layers().Activation(name))


def _operation(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        import keras

        x = maker.input(node)
        return Laid(getattr(keras.ops, name)(x.tensor), x.perm)

    return convert


def _softmax(maker: Maker, node: Node) -> Laid:
    x = maker.input(node)
    axis: Any = node.attrs.get("axis", -1)
    return Laid(_layers().Softmax(axis=x.perm.index(axis % len(x.perm)))(x.tensor), x.perm)


def _max_pool(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    kernel: Any = node.attrs["kernel_shape"]
    tensor, options = _windowed(x, node, kernel, fill=float(np.finfo(np.float32).min))
    return Laid(_class("MaxPooling", len(x.perm))(tuple(kernel), **options)(tensor), x.perm)


def _average_pool(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    kernel: Any = node.attrs["kernel_shape"]
    pads: Any = node.attrs.get("pads") or ()
    if node.attrs.get("count_include_pad") and any(pads):
        strides = window(node, node.attrs, len(kernel))[0]
        tensor, options = _padded(x.tensor, pads), {"strides": tuple(strides), "padding": "valid"}
    else:
        tensor, options = _windowed(x, node, kernel)
        if tensor is not x.tensor:
            raise Unsupported("an average that leaves out the padding, other than 'same', has no Keras layer")
    return Laid(_class("AveragePooling", len(x.perm))(tuple(kernel), **options)(tensor), x.perm)


def _global(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        x = maker.input(node).last
        return Laid(_class(name, len(x.perm))(keepdims=True)(x.tensor), x.perm)

    return convert


def _reduce(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        import keras

        x = maker.input(node)
        axes: Any = node.attrs.get("axes")
        axes = maker.constant(node, 1) if axes is None else axes
        if axes is None:
            raise Unsupported(f"{node.op} over all axes, the batch among them")
        keep = bool(node.attrs.get("keepdims", 1))
        x = x if keep else x.plain
        native = tuple(sorted(x.perm.index(int(a) % len(x.perm)) for a in np.asarray(axes).reshape(-1)))
        made = getattr(keras.ops, name)(x.tensor, axis=native, keepdims=keep)
        return Laid(made, x.perm if keep else tuple(range(len(x.perm) - len(native))))

    return convert


def _concat(maker: Maker, node: Node) -> Laid:
    xs = [maker.input(node, i) for i in range(len(node.inputs))]
    xs = [x.turned(xs[0].perm) for x in xs]
    axis: Any = node.attrs["axis"]
    native = xs[0].perm.index(axis % len(xs[0].perm))
    return Laid(_layers().Concatenate(axis=native)([x.tensor for x in xs]), xs[0].perm)


def _transpose(maker: Maker, node: Node) -> Laid:
    """Nothing is moved: the tensor stays as it is, and stands in another relation to its ONNX twin."""
    x = maker.input(node)
    perm: Any = node.attrs.get("perm") or tuple(reversed(range(len(x.perm))))
    return Laid(x.tensor, tuple(tuple(perm).index(p) for p in x.perm))


def _reshape(maker: Maker, node: Node) -> Laid:
    x, shape = maker.input(node).plain, maker.shape(node)
    before = maker.values[node.input(0)].shape
    if not shape or shape[0] != before[0]:
        raise Unsupported("a reshape that changes the batch axis has no Keras layer")
    made = _layers().Flatten()(x.tensor) if len(shape) == 2 else _layers().Reshape(shape[1:])(x.tensor)
    return Laid(made, tuple(range(len(shape))))


def _same(maker: Maker, node: Node) -> Laid:
    return maker.input(node)


def _cast(maker: Maker, node: Node) -> Laid:
    import keras

    x = maker.input(node)
    return Laid(keras.ops.cast(x.tensor, str(maker.values[node.outputs[0]].dtype)), x.perm)


def _pad(maker: Maker, node: Node) -> Laid:
    import keras

    x, pads = maker.input(node), [int(p) for p in maker.needed(node, 1)]
    mode, value = node.attrs.get("mode", "constant"), maker.constant(node, 2)
    rank, fill = len(x.perm), 0.0 if value is None or not value.size else float(value.reshape(-1)[0])
    if node.input(3):
        raise Unsupported("Pad with a choice of axes")
    spatial = not any(pads[i] or pads[rank + i] for i in (0, 1))
    if mode == "constant" and not fill and spatial and 3 <= rank <= 5:
        x = x.last
        return Laid(_padded(x.tensor, (*pads[2:rank], *pads[rank + 2 :])), x.perm)
    if mode not in ("constant", "reflect"):
        raise Unsupported(f"padding by {mode!r} has no Keras layer")
    pairs = [(pads[p], pads[rank + p]) for p in x.perm]
    more = {"constant_values": fill} if mode == "constant" else {}
    return Laid(keras.ops.pad(x.tensor, pairs, mode=mode, **more), x.perm)


def _slice(maker: Maker, node: Node) -> Laid:
    x = maker.input(node)
    starts, ends = (np.asarray(maker.needed(node, i)).reshape(-1) for i in (1, 2))
    axes = maker.constant(node, 3)
    steps = maker.constant(node, 4)
    axes = np.arange(starts.size) if axes is None else axes.reshape(-1)
    steps = np.ones(starts.size, int) if steps is None else steps.reshape(-1)
    if starts.size == 1 and int(axes[0]) % len(x.perm) and x.tensor.dtype == "float32":
        axis = int(axes[0]) % len(x.perm)
        size = x.tensor.shape[x.perm.index(axis)]
        kept = np.arange(size or 0)[slice(int(starts[0]), int(ends[0]), int(steps[0]))]
        if kept.size and size * kept.size <= _SELECTION:
            return _selected(x, axis, kept)
    cuts = [slice(None)] * len(x.perm)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        native = x.perm.index(int(axis) % len(x.perm))
        if native == 0 or step < 0:
            raise Unsupported("a slice of the batch, or one that runs backwards")
        limit = None if abs(int(end)) >= 2**31 - 1 else int(end)
        cuts[native] = slice(int(start), limit, int(step))
    return Laid(x.tensor[tuple(cuts)], x.perm)


def _gather(maker: Maker, node: Node) -> Laid:
    import keras

    x, indices = maker.input(node), maker.needed(node, 1)
    axis: Any = node.attrs.get("axis", 0)
    if indices.ndim != 1:
        raise Unsupported("Gather by other than a list of indices")
    axis = axis % len(x.perm)
    if axis and x.tensor.dtype == "float32" and x.tensor.shape[x.perm.index(axis)] * indices.size <= _SELECTION:
        return _selected(x, axis, indices)
    return Laid(keras.ops.take(x.tensor, indices.tolist(), axis=x.perm.index(axis)), x.perm)


def _selected(x: Laid, axis: int, indices: Array) -> Laid:
    """Entries of one axis: a Dense layer of zeros and ones, exact, and known to every container."""
    x = x if x.perm[-1] == axis else x.turned((*(p for p in x.perm if p != axis), axis))
    matrix = np.eye(x.tensor.shape[-1], dtype=np.float32)[:, indices]
    return Laid(applied(_layers().Dense(indices.size, use_bias=False), x.tensor, matrix), x.perm)


def _resize(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    before, after = maker.values[node.input(0)].shape[2:], maker.shape(node)[2:]
    if len(before) != 2 or any(b % a for a, b in zip(before, after, strict=True)):
        raise Unsupported("only images enlarged by whole factors have a Keras layer")
    factors = tuple(b // a for a, b in zip(before, after, strict=True))
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[str(node.attrs.get("mode", "nearest"))]
    return Laid(_layers().UpSampling2D(factors, interpolation=mode)(x.tensor), x.perm)


def _number(node: Node, name: str, default: float) -> float:
    value: Any = node.attrs.get(name, default)
    return float(value)


def _hard_sigmoid(maker: Maker, node: Node) -> Laid:
    """α · x + β between 0 and 1: a Rescaling and a bounded ReLU."""
    x = maker.input(node)
    scaled = _layers().Rescaling(_number(node, "alpha", 0.2), _number(node, "beta", 0.5))(x.tensor)
    return Laid(_layers().ReLU(max_value=1.0)(scaled), x.perm)


CONVERT: dict[str, Callable[[Maker, Node], Laid]] = {
    "Conv": _conv, "BatchNormalization": _normalisation, "LayerNormalization": _layer_norm, "MatMul": _matmul,
    "Gemm": _gemm, **dict.fromkeys((*_OPS, "Sum"), _binary), "Clip": _clip, "PRelu": _prelu,
    "Relu": _layer(lambda node: _layers().ReLU()),
    "LeakyRelu": _layer(lambda node: _layers().LeakyReLU(negative_slope=_number(node, "alpha", 0.01))),
    "Elu": _layer(lambda node: _layers().ELU(alpha=_number(node, "alpha", 1.0))),
    "Sigmoid": _activation("sigmoid"), "Tanh": _activation("tanh"), "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"), "Selu": _activation("selu"), "Exp": _activation("exponential"),
    "HardSwish": _activation("hard_silu"), "Gelu": _activation("gelu"), "Mish": _activation("mish"),
    "HardSigmoid": _hard_sigmoid, "Softmax": _softmax, "LogSoftmax": _activation("log_softmax"),
    "Abs": _operation("abs"), "Neg": _operation("negative"), "Sqrt": _operation("sqrt"), "Log": _operation("log"),
    "Erf": _operation("erf"), "Floor": _operation("floor"), "Ceil": _operation("ceil"), "Sin": _operation("sin"),
    "Cos": _operation("cos"), "Reciprocal": _operation("reciprocal"), "Sign": _operation("sign"),
    "MaxPool": _max_pool, "AveragePool": _average_pool, "GlobalAveragePool": _global("GlobalAveragePooling"),
    "GlobalMaxPool": _global("GlobalMaxPooling"), "ReduceMean": _reduce("mean"), "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("max"), "ReduceMin": _reduce("min"), "Concat": _concat, "Transpose": _transpose,
    "Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape, "Identity": _same,
    "Dropout": _same, "Cast": _cast, "Pad": _pad, "Slice": _slice, "Gather": _gather, "Resize": _resize,
}  # fmt: skip
