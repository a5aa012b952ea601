"""ONNX attributes as TFLite builtin options: paddings, activations, coordinate modes, operator versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.ir import Node

CLASSES: Mapping[str, str] = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "POW": "PowOptions",
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions", "FULLY_CONNECTED": "FullyConnectedOptions",
    "BATCH_MATMUL": "BatchMatMulOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions", "SOFTMAX": "SoftmaxOptions", "LOG_SOFTMAX": "LogSoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions", "HARD_SWISH": "HardSwishOptions", "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions", "STRIDED_SLICE": "StridedSliceOptions", "GATHER": "GatherOptions",
    "PAD": "PadOptions", "PADV2": "PadV2Options", "MIRROR_PAD": "MirrorPadOptions", "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions", "REDUCE_MAX": "ReducerOptions", "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions", "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions", "CUMSUM": "CumsumOptions", "EXP": "ExpOptions", "NEG": "NegOptions",
    "ABS": "AbsOptions", "COS": "CosOptions", "SQUARE": "SquareOptions", "GELU": "GeluOptions", "SIGN": "SignOptions",
    "TILE": "TileOptions", "BROADCAST_TO": "BroadcastToOptions", "CAST": "CastOptions",
}  # fmt: skip

_INT8_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}
_NO_INT8_VERSION = {"RESHAPE", "EXP", "CAST", "ELU", "MIRROR_PAD", "NEG", "HARD_SWISH", "PRELU", "GELU"}

NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
SAME, VALID = 0, 1


def version(name: str, options: Mapping[str, Any], quantised: bool, inputs: int) -> int:
    """The version of a builtin operator that knows these options (tensorflow/lite/tools/versioning)."""
    if name == "BROADCAST_TO":
        return 2
    if name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR") and options.get("halfPixelCenters"):
        return 3
    if name == "TRANSPOSE_CONV" and inputs > 3:
        return 3
    if name == "FULLY_CONNECTED" and (options.get("keepNumDims") or inputs < 3):
        return 6 if inputs < 3 else 5
    if name == "DEPTHWISE_CONV_2D" and not quantised:
        return 2 if max(options.get("dilationWFactor", 1), options.get("dilationHFactor", 1)) > 1 else 1
    return 1 if not quantised or name in _NO_INT8_VERSION else _INT8_VERSIONS.get(name, 2)


def fused(low: float | None, high: float | None) -> int | None:
    """The fused activation that clips to [low, high], or None where there is none."""
    bounds = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
    high_is_all = bounds[1] >= np.finfo(np.float32).max
    if bounds[0] <= np.finfo(np.float32).min and high_is_all:
        return NONE
    if bounds[0] == 0 and high_is_all:
        return RELU
    return {(-1.0, 1.0): RELU_N1_TO_1, (0.0, 6.0): RELU6}.get(bounds)


def ints(node: Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value: Any = node.attrs.get(name)
    return tuple(int(v) for v in (default if value is None else value))


def integer(node: Node, name: str, default: int) -> int:
    """An attribute that is an integer."""
    value: Any = node.attrs.get(name)
    return default if value is None else int(value)


def number(node: Node, name: str, default: float) -> float:
    """An attribute that is a number, in float32."""
    value: Any = node.attrs.get(name)
    return float(np.float32(default if value is None else value))


def windows(
    node: Node, size: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """(strides, dilations, (begin, end) pads a spatial axis) of a convolution or pooling over a map of this size."""
    rank = len(kernel)
    strides, dilations = ints(node, "strides", (1,) * rank), ints(node, "dilations", (1,) * rank)
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(size, kernel, strides, dilations)
        return strides, dilations, [(b, a) if mode == "SAME_LOWER" else (a, b) for a, b in pads]
    flat = (0,) * (2 * rank) if mode == "VALID" else ints(node, "pads", (0,) * (2 * rank))
    pads = list(zip(flat[:rank], flat[rank:], strict=True))
    if integer(node, "ceil_mode", 0):
        pads = [
            (a, b + (-(n + a + b - (k - 1) * d - 1) % s))
            for (a, b), n, k, s, d in zip(pads, size, kernel, strides, dilations, strict=True)
        ]
    return strides, dilations, pads


def same_pads(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """What TFLite's SAME pads: to ceil(size / stride) outputs, the odd one at the end."""
    totals = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [(t // 2, t - t // 2) for t in totals]


def padding(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> dict[str, int] | None:
    """The option that means these pads, {} where SAME and VALID both do, None where only a PAD operator makes them."""
    same = same_pads(size, kernel, strides, dilations)
    if list(pads) == same:
        return {"padding": SAME} if any(map(any, same)) else {}
    return None if any(map(any, pads)) else {"padding": VALID}


def resize(node: Node) -> tuple[str, dict[str, Any]]:
    """The operator and options that sample as an ONNX Resize does. Raises Unsupported where none does."""
    mode, where = node.attrs.get("mode", "nearest"), node.attrs.get("coordinate_transformation_mode", "half_pixel")
    flags = {
        "asymmetric": (False, False), "align_corners": (True, False), "half_pixel": (False, True),
        "pytorch_half_pixel": (False, True),
    }.get(str(where))  # fmt: skip
    if flags is None or mode not in ("linear", "nearest") or integer(node, "antialias", 0):
        raise Unsupported(f"TFLite has no Resize with mode {mode!s} and coordinates {where!s}")
    options = {"alignCorners": flags[0], "halfPixelCenters": flags[1]}
    return "RESIZE_BILINEAR" if mode == "linear" else "RESIZE_NEAREST_NEIGHBOR", options
