"""ONNX operators that look through windows, as Keras layers: convolution, pooling, padding, resizing.

All of them compute with channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.maker import Handler, Maker, applied, keras_layers, sized
from fetafix.formats.keras.settings import window, word
from fetafix.ir import Node


def padded(x: Any, pads: Sequence[int], value: float = 0.0) -> Any:
    """The tensor (channels last) with pads (all begins, then all ends) on its spatial axes."""
    import keras

    if min(pads, default=0) < 0:
        raise Unsupported("negative pads have no Keras layer")
    rank = len(pads) // 2
    pairs = [(int(pads[i]), int(pads[rank + i])) for i in range(rank)]
    if value:
        return keras.ops.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=value)
    return sized("ZeroPadding", rank + 2)(pairs[0] if rank == 1 else tuple(pairs))(x)


def windowed(x: Laid, node: Node, kernel: Sequence[int], fill: float = 0.0) -> tuple[Any, dict[str, Any]]:
    """(the tensor, perhaps padded; strides and padding as Keras has them)."""
    if node.attrs.get("ceil_mode"):
        raise Unsupported("sizes rounded up have no Keras layer")
    strides, dilations, _ = window(node, node.attrs, len(kernel))
    padding = word(node.attrs, x.tensor.shape[1:-1], kernel, strides, dilations)
    tensor = x.tensor
    if padding is None:
        if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise Unsupported(f"padding {node.attrs['auto_pad']!r} has no Keras layer")
        tensor, padding = padded(tensor, node.attrs["pads"], fill), "valid"  # type: ignore[arg-type]
    return tensor, {"strides": tuple(strides), "padding": padding}


def _conv(maker: Maker, node: Node) -> Laid:
    x, weight, bias = maker.input(node).last, maker.needed(node, 1), maker.constant(node, 2)
    group: Any = node.attrs.get("group", 1)
    rank, kernel = weight.ndim, weight.shape[2:]
    tensor, options = windowed(x, node, kernel)
    dilations = window(node, node.attrs, rank - 2)[1]
    options.update(kernel_size=tuple(kernel), use_bias=bias is not None, dilation_rate=tuple(dilations))
    channels = weight.shape[1] * group
    if group == channels and group > 1 and rank in (3, 4):
        depth = weight.shape[0] // channels
        layer = sized("DepthwiseConv", rank)(depth_multiplier=depth, **options)
        folded = weight.reshape(channels, depth, *kernel)
        native = np.transpose(folded, (*range(2, rank), 0, 1))
    else:
        layer = sized("Conv", rank)(weight.shape[0], groups=group, **options)
        native = np.transpose(weight, (*range(2, rank), 1, 0))
    return Laid(applied(layer, tensor, native, bias), x.perm)


def _max_pool(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    kernel: Any = node.attrs["kernel_shape"]
    tensor, options = windowed(x, node, kernel, fill=float(np.finfo(np.float32).min))
    return Laid(sized("MaxPooling", len(x.perm))(tuple(kernel), **options)(tensor), x.perm)


def _average_pool(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    kernel: Any = node.attrs["kernel_shape"]
    pads: Any = node.attrs.get("pads") or ()
    if node.attrs.get("count_include_pad") and any(pads):
        strides = window(node, node.attrs, len(kernel))[0]
        tensor, options = padded(x.tensor, pads), {"strides": tuple(strides), "padding": "valid"}
    else:
        tensor, options = windowed(x, node, kernel)
        if tensor is not x.tensor:
            raise Unsupported("an average that leaves out the padding, other than 'same', has no Keras layer")
    return Laid(sized("AveragePooling", len(x.perm))(tuple(kernel), **options)(tensor), x.perm)


def _global(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        x = maker.input(node).last
        return Laid(sized(name, len(x.perm))(keepdims=True)(x.tensor), x.perm)

    return convert


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
        return Laid(padded(x.tensor, (*pads[2:rank], *pads[rank + 2 :])), x.perm)
    if mode not in ("constant", "reflect"):
        raise Unsupported(f"padding by {mode!r} has no Keras layer")
    pairs = [(pads[p], pads[rank + p]) for p in x.perm]
    more = {"constant_values": fill} if mode == "constant" else {}
    return Laid(keras.ops.pad(x.tensor, pairs, mode=mode, **more), x.perm)


def _resize(maker: Maker, node: Node) -> Laid:
    x = maker.input(node).last
    before, after = maker.values[node.input(0)].shape[2:], maker.shape(node)[2:]
    if len(before) != 2 or any(b % a for a, b in zip(before, after, strict=True)):
        raise Unsupported("only images enlarged by whole factors have a Keras layer")
    factors = tuple(b // a for a, b in zip(before, after, strict=True))
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[str(node.attrs.get("mode", "nearest"))]
    return Laid(keras_layers().UpSampling2D(factors, interpolation=mode)(x.tensor), x.perm)


HANDLERS: Mapping[str, Handler] = {
    "Conv": _conv, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": _global("GlobalAveragePooling"), "GlobalMaxPool": _global("GlobalMaxPooling"), "Pad": _pad,
    "Resize": _resize,
}  # fmt: skip
