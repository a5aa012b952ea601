"""How each ONNX operator is said in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.ir import Array, Node

UNARY = {"Abs": "abs", "Ceil": "ceil", "Cos": "cos", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Log": "log",
         "Neg": "negative", "Not": "logical_not", "Reciprocal": "reciprocal", "Round": "round", "Sigmoid": "sigmoid",
         "Sign": "sign", "Sin": "sin", "Softplus": "softplus", "Sqrt": "sqrt", "Tanh": "tanh"}
VARIADIC = {"Add": "add", "And": "logical_and", "Div": "divide", "Equal": "equal", "Greater": "greater",
            "GreaterOrEqual": "greater_equal", "Less": "less", "LessOrEqual": "less_equal", "Max": "maximum",
            "Min": "minimum", "Mul": "multiply", "Or": "logical_or", "Pow": "pow", "Sub": "subtract"}


@dataclass(frozen=True, eq=False)
class Call:
    """One operator to emit. tf: the module. inputs: TensorFlow tensors, None where omitted. constant: by slot."""

    tf: Any
    node: Node
    inputs: Sequence[Any]
    constant: Callable[[int], Array | None]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute of the ONNX node."""
        return self.node.attrs.get(name, default)

    def input(self, slot: int) -> Any:
        """An input, or None."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def fixed(self, slot: int, name: str = "") -> list[int]:
        """An integer input that must be a constant (or the attribute it was in older operator sets)."""
        value = self.constant(slot)
        if value is None and name and self.attr(name) is not None:
            value = np.atleast_1d(np.asarray(self.attr(name)))
        if value is None:
            raise Unsupported(f"{self.node.label}: input {slot} of {self.node.op} is computed while it runs")
        return [int(v) for v in np.ravel(value)]

    def rank(self, slot: int = 0) -> int:
        """Number of axes of an input."""
        rank = self.inputs[slot].shape.rank
        if rank is None:
            raise Unsupported(f"{self.node.label}: the rank of its input is not known")
        return int(rank)


def last(call: Call, x: Any) -> Any:
    """Channels last."""
    rank = x.shape.rank
    return call.tf.transpose(x, [0, *range(2, rank), 1])


def first(call: Call, x: Any) -> Any:
    """Channels first."""
    rank = x.shape.rank
    return call.tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def pads(call: Call, kernel: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """("SAME" or "VALID", explicit padding (before, after) of each spatial axis)."""
    dims = len(kernel)
    mode = call.attr("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    strides = call.attr("strides", (1,) * dims)
    dilations = call.attr("dilations", (1,) * dims)
    if mode == "SAME_UPPER":
        return "SAME", [(0, 0)] * dims
    if mode == "SAME_LOWER":
        sizes = call.inputs[0].shape[2:]
        if None in list(sizes):
            raise Unsupported(f"{call.node.label}: SAME_LOWER over a size that is not known")
        total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
                 for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
        return "VALID", [(t - t // 2, t // 2) for t in total]
    flat = call.attr("pads", (0,) * (2 * dims)) if mode != "VALID" else (0,) * (2 * dims)
    return "VALID", list(zip(flat[:dims], flat[dims:], strict=True))


def padded(call: Call, x: Any, explicit: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """Padding of the spatial axes, channels last."""
    if not any(map(any, explicit)):
        return x
    return call.tf.pad(x, [(0, 0), *explicit, (0, 0)], constant_values=np.asarray(value, x.dtype.as_numpy_dtype))


def conv(call: Call) -> Any:
    """Conv of one to three spatial axes, grouped, depthwise or plain."""
    tf, weight = call.tf, call.constant(1)
    if weight is None:
        raise Unsupported(f"{call.node.label}: a convolution with computed weights")
    dims = weight.ndim - 2
    mode, explicit = pads(call, weight.shape[2:])
    strides = list(call.attr("strides", (1,) * dims))
    dilations = list(call.attr("dilations", (1,) * dims))
    x = padded(call, last(call, call.inputs[0]), explicit)
    group, channels = call.attr("group", 1), x.shape[-1]
    kernel = np.transpose(weight, (*range(2, dims + 2), 1, 0))
    if group == 1:
        y = tf.nn.convolution(x, kernel, strides=strides, padding=mode, dilations=dilations)
    elif dims == 2 and group == channels and (strides[0] == strides[1]) and (max(strides) == 1 or max(dilations) == 1):
        height, width, _, out = kernel.shape
        turned = kernel.reshape(height, width, group, out // group)
        y = tf.nn.depthwise_conv2d(x, turned, [1, *strides, 1], mode, dilations=dilations)
    else:
        parts = zip(tf.split(x, group, -1), np.split(kernel, group, -1), strict=True)
        done = [tf.nn.convolution(p, k, strides=strides, padding=mode, dilations=dilations) for p, k in parts]
        y = tf.concat(done, -1)
    bias = call.input(2)
    return first(call, y if bias is None else tf.nn.bias_add(y, bias))


def conv_transpose(call: Call) -> Any:
    """ConvTranspose of two spatial axes in one group, its padding cut off what the plain one gives."""
    tf, weight = call.tf, call.constant(1)
    if weight is None or weight.ndim != 4 or call.attr("group", 1) != 1 or call.attr("output_shape") is not None:
        raise Unsupported(f"{call.node.label}: ConvTranspose other than over two axes in one group")
    if call.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or max(call.attr("dilations", (1, 1))) > 1:
        raise Unsupported(f"{call.node.label}: ConvTranspose with automatic padding or dilations")
    strides, extra = call.attr("strides", (1, 1)), call.attr("output_padding", (0, 0))
    cut = call.attr("pads", (0, 0, 0, 0))
    x = last(call, call.inputs[0])
    kernel = np.transpose(weight, (2, 3, 1, 0))
    full = [(tf.shape(x)[1 + i] - 1) * strides[i] + kernel.shape[i] for i in range(2)]
    shape = tf.stack([tf.shape(x)[0], *full, kernel.shape[2]])
    y = tf.nn.conv2d_transpose(x, kernel, shape, strides, "VALID")
    y = padded(call, y, [(0, extra[0]), (0, extra[1])])
    size = tf.shape(y)
    y = y[:, cut[0] : size[1] - cut[2], cut[1] : size[2] - cut[3], :]
    bias = call.input(2)
    return first(call, y if bias is None else tf.nn.bias_add(y, bias))


def max_pool(call: Call) -> Any:
    """MaxPool; explicit padding is of the lowest value."""
    if call.attr("ceil_mode", 0) or max(call.attr("dilations", (1,))) > 1 or len(call.node.outputs) > 1:
        raise Unsupported(f"{call.node.label}: MaxPool with ceil_mode, dilations or indices")
    kernel = call.attr("kernel_shape")
    mode, explicit = pads(call, kernel)
    x = padded(call, last(call, call.inputs[0]), explicit, float(np.finfo(np.float32).min))
    return first(call, call.tf.nn.max_pool(x, kernel, call.attr("strides", (1,) * len(kernel)), mode))


def average_pool(call: Call) -> Any:
    """AveragePool; where padding does not count, the sum is divided by what is inside."""
    if call.attr("ceil_mode", 0) or max(call.attr("dilations", (1,))) > 1:
        raise Unsupported(f"{call.node.label}: AveragePool with ceil_mode or dilations")
    tf, kernel = call.tf, call.attr("kernel_shape")
    strides = call.attr("strides", (1,) * len(kernel))
    mode, explicit = pads(call, kernel)
    x = last(call, call.inputs[0])
    y = tf.nn.avg_pool(padded(call, x, explicit), kernel, strides, mode)
    if any(map(any, explicit)) and not call.attr("count_include_pad", 0):
        y /= tf.nn.avg_pool(padded(call, tf.ones_like(x), explicit), kernel, strides, mode)
    elif mode == "SAME" and call.attr("count_include_pad", 0):
        raise Unsupported(f"{call.node.label}: AveragePool that counts automatic padding")
    return first(call, y)


def batch_normalization(call: Call) -> Any:
    """With the statistics given, or in training mode with those of the batch."""
    tf, x = call.tf, call.inputs[0]
    shape = [1, -1, *[1] * (call.rank() - 2)]
    scale, bias, mean, variance = (tf.reshape(i, shape) for i in call.inputs[1:5])
    if call.attr("training_mode", 0):
        axes = [i for i in range(call.rank()) if i != 1]
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, bias, scale, call.attr("epsilon", 1e-5))


def gemm(call: Call) -> Any:
    """A · B, scaled, plus C, scaled."""
    tf = call.tf
    y = tf.linalg.matmul(call.inputs[0], call.inputs[1], bool(call.attr("transA", 0)), bool(call.attr("transB", 0)))
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    bias = call.input(2)
    return y if bias is None else y + (bias if beta == 1.0 else bias * beta)


def clip(call: Call) -> Any:
    """Bounds by inputs or, in older operator sets, by attributes."""
    y = call.inputs[0]
    for slot, name, bound in ((1, "min", call.tf.maximum), (2, "max", call.tf.minimum)):
        limit = call.input(slot) if call.input(slot) is not None else call.attr(name)
        y = y if limit is None else bound(y, limit)
    return y


def softmax(call: Call) -> Any:
    """Over one axis."""
    return call.tf.nn.softmax(call.inputs[0], call.attr("axis", -1))


def leaky_relu(call: Call) -> Any:
    """LeakyRelu."""
    return call.tf.nn.leaky_relu(call.inputs[0], call.attr("alpha", 0.01))


def elu(call: Call) -> Any:
    """Elu of any alpha."""
    x = call.inputs[0]
    return call.tf.where(x > 0, x, call.attr("alpha", 1.0) * call.tf.math.expm1(x))


def hard_sigmoid(call: Call) -> Any:
    """A line between 0 and 1."""
    line = call.attr("alpha", 0.2) * call.inputs[0] + call.attr("beta", 0.5)
    return call.tf.clip_by_value(line, 0.0, 1.0)


def prelu(call: Call) -> Any:
    """A slope below 0."""
    x = call.inputs[0]
    return call.tf.where(x > 0, x, x * call.inputs[1])


def reduce(function: str) -> Callable[[Call], Any]:
    """A reduction by TensorFlow's name."""

    def emit(call: Call) -> Any:
        given = call.input(1) is not None or call.attr("axes") is not None
        axes = call.fixed(1, "axes") if given else None
        return getattr(call.tf, function)(call.inputs[0], axes, bool(call.attr("keepdims", 1)))

    return emit


def global_pool(function: str) -> Callable[[Call], Any]:
    """Over all spatial axes, which stay with length 1."""
    return lambda call: getattr(call.tf, function)(call.inputs[0], list(range(2, call.rank())), keepdims=True)


def reshape(call: Call) -> Any:
    """A zero takes over the input's size."""
    x = call.inputs[0]
    if call.constant(1) is None and call.attr("shape") is None:
        return call.tf.reshape(x, call.inputs[1])
    shape = call.fixed(1, "shape")
    known = call.tf.shape(x)
    sizes = [known[i] if s == 0 else s for i, s in enumerate(shape)]
    if all(isinstance(s, int) for s in sizes):
        return call.tf.reshape(x, sizes)
    made = call.tf.reshape(x, call.tf.stack(sizes))
    made.set_shape([x.shape[i] if s == 0 else (None if s < 0 else s) for i, s in enumerate(shape)])
    return made


def flatten(call: Call) -> Any:
    """To two axes."""
    x, axis = call.inputs[0], call.attr("axis", 1)
    rest = x.shape[axis:]
    size = int(np.prod(rest)) if None not in list(rest) else -1
    if axis == 1:
        return call.tf.reshape(x, [-1, size]) if size > 0 else call.tf.reshape(x, [call.tf.shape(x)[0], -1])
    return call.tf.reshape(x, call.tf.stack([call.tf.reduce_prod(call.tf.shape(x)[:axis]), size]))


def squeeze(call: Call) -> Any:
    """Axes of length 1 taken out."""
    return call.tf.squeeze(call.inputs[0], call.fixed(1, "axes"))


def unsqueeze(call: Call) -> Any:
    """Axes of length 1 put in."""
    axes = call.fixed(1, "axes")
    rank = call.rank() + len(axes)
    y = call.inputs[0]
    for axis in sorted(a % rank for a in axes):
        y = call.tf.expand_dims(y, axis)
    return y


def pad(call: Call) -> Any:
    """Pad by a constant, or by what is inside."""
    flat, mode = call.fixed(1, "pads"), call.attr("mode", "constant")
    half = len(flat) // 2
    amounts = list(zip(flat[:half], flat[half:], strict=True))
    kinds = {"constant": "CONSTANT", "reflect": "REFLECT"}
    if mode not in kinds or min(flat) < 0 or len(call.node.inputs) > 3:
        raise Unsupported(f"{call.node.label}: Pad in mode {mode} or with negative amounts")
    value = call.constant(2)
    return call.tf.pad(call.inputs[0], amounts, kinds[mode], 0 if value is None else np.asarray(value).reshape(()))


def slices(call: Call) -> Any:
    """Slice with constant bounds."""
    starts, ends = call.fixed(1, "starts"), call.fixed(2, "ends")
    axes = call.fixed(3, "axes") if call.input(3) is not None or call.attr("axes") else list(range(len(starts)))
    steps = call.fixed(4) if call.input(4) is not None else [1] * len(starts)
    index = [slice(None)] * call.rank()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if end > 2**31 - 2 or end < -(2**31) else end, step)
    return call.inputs[0][tuple(index)]


def gather(call: Call) -> Any:
    """Along one axis; negative indices count from the end."""
    index = call.constant(1)
    axis = call.attr("axis", 0)
    if index is None:
        return call.tf.gather(call.inputs[0], call.inputs[1], axis=axis)
    if np.any(index < 0):
        index = index % int(call.inputs[0].shape[axis])
    return call.tf.gather(call.inputs[0], index, axis=axis)


def resize(call: Call) -> Any:
    """Resize of the two spatial axes by nearest or linear interpolation, as far as TensorFlow's modes go."""
    tf, raw = call.tf, call.tf.raw_ops
    mode, where = call.attr("mode", "nearest"), call.attr("coordinate_transformation_mode", "half_pixel")
    corners, centers = where == "align_corners", where in ("half_pixel", "pytorch_half_pixel")
    if call.rank() != 4 or not (corners or centers or where == "asymmetric"):
        raise Unsupported(f"{call.node.label}: Resize with {where} coordinates")
    x = last(call, call.inputs[0])
    if call.input(3) is not None:
        size = tf.constant(call.fixed(3)[2:], tf.int32)
    else:
        scales = call.constant(2)
        if scales is None or scales.size != 4:
            raise Unsupported(f"{call.node.label}: Resize whose scales are computed")
        size = tf.cast(tf.cast(tf.shape(x)[1:3], tf.float32) * scales[2:].astype(np.float32), tf.int32)
    if mode == "nearest":
        y = raw.ResizeNearestNeighbor(images=x, size=size, align_corners=corners, half_pixel_centers=centers)
    elif mode == "linear":
        y = raw.ResizeBilinear(images=x, size=size, align_corners=corners, half_pixel_centers=centers)
    else:
        raise Unsupported(f"{call.node.label}: Resize by {mode} interpolation")
    return first(call, y)


def depth_to_space(call: Call) -> Any:
    """Both orders of blocks and channels."""
    tf, size = call.tf, call.attr("blocksize")
    x = last(call, call.inputs[0])
    if call.attr("mode", "DCR") == "CRD":
        channels = x.shape[-1]
        order = np.arange(channels).reshape(channels // size**2, size, size).transpose(1, 2, 0).ravel()
        x = tf.gather(x, order, axis=-1)
    return first(call, tf.nn.depth_to_space(x, size))


EMITTERS: dict[str, Callable[[Call], Any]] = {
    "AveragePool": average_pool, "BatchNormalization": batch_normalization, "Clip": clip, "Conv": conv,
    "Cast": lambda c: c.tf.cast(c.inputs[0], c.tf.as_dtype(_numpy_dtype(c.attr("to")))),
    "Concat": lambda c: c.tf.concat(list(c.inputs), c.attr("axis")),
    "ConvTranspose": conv_transpose, "DepthToSpace": depth_to_space, "Dropout": lambda c: c.tf.identity(c.inputs[0]),
    "Elu": elu, "Flatten": flatten, "Gather": gather, "Gemm": gemm, "GlobalAveragePool": global_pool("reduce_mean"),
    "GlobalMaxPool": global_pool("reduce_max"), "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda c: c.inputs[0] * c.tf.clip_by_value(c.inputs[0] / 6 + 0.5, 0.0, 1.0),
    "Identity": lambda c: c.tf.identity(c.inputs[0]), "LeakyRelu": leaky_relu,
    "LogSoftmax": lambda c: c.tf.nn.log_softmax(c.inputs[0], c.attr("axis", -1)),
    "MatMul": lambda c: c.tf.linalg.matmul(c.inputs[0], c.inputs[1]), "MaxPool": max_pool, "PRelu": prelu, "Pad": pad,
    "ReduceMax": reduce("reduce_max"), "ReduceMean": reduce("reduce_mean"), "ReduceMin": reduce("reduce_min"),
    "ReduceProd": reduce("reduce_prod"), "ReduceSum": reduce("reduce_sum"), "Relu": lambda c: c.tf.nn.relu(c.inputs[0]),
    "Reshape": reshape, "Resize": resize, "Selu": lambda c: c.tf.nn.selu(c.inputs[0]),
    "Slice": slices, "Softmax": softmax, "SpaceToDepth": lambda c: first(
        c, c.tf.nn.space_to_depth(last(c, c.inputs[0]), c.attr("blocksize"))),
    "Softsign": lambda c: c.tf.nn.softsign(c.inputs[0]),
    "Split": lambda c: c.tf.split(c.inputs[0], c.fixed(1, "split"), c.attr("axis", 0)),
    "Squeeze": squeeze, "Sum": lambda c: c.tf.add_n(list(c.inputs)),
    "Tile": lambda c: c.tf.tile(c.inputs[0], c.fixed(1)),
    "Transpose": lambda c: c.tf.transpose(c.inputs[0], c.attr("perm")), "Unsqueeze": unsqueeze,
    "Where": lambda c: c.tf.where(*c.inputs),
    "Expand": lambda c: c.inputs[0] + c.tf.zeros(c.fixed(1), c.inputs[0].dtype),
    "Shape": lambda c: c.tf.shape(c.inputs[0], c.tf.int64),
}


def _numpy_dtype(number: int) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(number)
