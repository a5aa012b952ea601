"""ONNX operators that look through windows, in TensorFlow: convolution, pooling, resizing, blocks of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tensorflow.call import Call, Handler, first, last


def _pads(call: Call, kernel: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
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


def _padded(call: Call, x: Any, explicit: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """Padding of the spatial axes, channels last."""
    if not any(map(any, explicit)):
        return x
    return call.tf.pad(x, [(0, 0), *explicit, (0, 0)], constant_values=np.asarray(value, x.dtype.as_numpy_dtype))


def _conv(call: Call) -> Any:
    """Conv of one to three spatial axes, grouped, depthwise or plain."""
    tf, weight = call.tf, call.constant(1)
    if weight is None:
        raise Unsupported(f"{call.node.label}: a convolution with computed weights")
    dims = weight.ndim - 2
    mode, explicit = _pads(call, weight.shape[2:])
    strides = list(call.attr("strides", (1,) * dims))
    dilations = list(call.attr("dilations", (1,) * dims))
    x = _padded(call, last(call, call.inputs[0]), explicit)
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


def _conv_transpose(call: Call) -> Any:
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
    y = _padded(call, y, [(0, extra[0]), (0, extra[1])])
    size = tf.shape(y)
    y = y[:, cut[0] : size[1] - cut[2], cut[1] : size[2] - cut[3], :]
    bias = call.input(2)
    return first(call, y if bias is None else tf.nn.bias_add(y, bias))


def _max_pool(call: Call) -> Any:
    """MaxPool; explicit padding is of the lowest value."""
    if call.attr("ceil_mode", 0) or max(call.attr("dilations", (1,))) > 1 or len(call.node.outputs) > 1:
        raise Unsupported(f"{call.node.label}: MaxPool with ceil_mode, dilations or indices")
    kernel = call.attr("kernel_shape")
    mode, explicit = _pads(call, kernel)
    x = _padded(call, last(call, call.inputs[0]), explicit, float(np.finfo(np.float32).min))
    return first(call, call.tf.nn.max_pool(x, kernel, call.attr("strides", (1,) * len(kernel)), mode))


def _average_pool(call: Call) -> Any:
    """AveragePool; where padding does not count, the sum is divided by what is inside."""
    if call.attr("ceil_mode", 0) or max(call.attr("dilations", (1,))) > 1:
        raise Unsupported(f"{call.node.label}: AveragePool with ceil_mode or dilations")
    tf, kernel = call.tf, call.attr("kernel_shape")
    strides = call.attr("strides", (1,) * len(kernel))
    mode, explicit = _pads(call, kernel)
    x = last(call, call.inputs[0])
    y = tf.nn.avg_pool(_padded(call, x, explicit), kernel, strides, mode)
    if any(map(any, explicit)) and not call.attr("count_include_pad", 0):
        y /= tf.nn.avg_pool(_padded(call, tf.ones_like(x), explicit), kernel, strides, mode)
    elif mode == "SAME" and call.attr("count_include_pad", 0):
        raise Unsupported(f"{call.node.label}: AveragePool that counts automatic padding")
    return first(call, y)


def _global_pool(function: str) -> Callable[[Call], Any]:
    """Over all spatial axes, which stay with length 1."""
    return lambda call: getattr(call.tf, function)(call.inputs[0], list(range(2, call.rank())), keepdims=True)


def _resize(call: Call) -> Any:
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


def _depth_to_space(call: Call) -> Any:
    """Both orders of blocks and channels."""
    tf, size = call.tf, call.attr("blocksize")
    x = last(call, call.inputs[0])
    if call.attr("mode", "DCR") == "CRD":
        channels = x.shape[-1]
        order = np.arange(channels).reshape(channels // size**2, size, size).transpose(1, 2, 0).ravel()
        x = tf.gather(x, order, axis=-1)
    return first(call, tf.nn.depth_to_space(x, size))


HANDLERS: Mapping[str, Handler] = {
    "AveragePool": _average_pool, "Conv": _conv, "ConvTranspose": _conv_transpose, "DepthToSpace": _depth_to_space,
    "GlobalAveragePool": _global_pool("reduce_mean"), "GlobalMaxPool": _global_pool("reduce_max"), "MaxPool": _max_pool,
    "Resize": _resize, "SpaceToDepth": lambda c: first(
        c, c.tf.nn.space_to_depth(last(c, c.inputs[0]), c.attr("blocksize"))),
}  # fmt: skip
