"""Grids (scales and zero points) of what TFLite operators make of codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fetafix.formats.tflite.program import Quantised
from fetafix.ir import Array

KEEPING = {
    "RESHAPE", "TRANSPOSE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "PADV2", "MIRROR_PAD", "GATHER", "STRIDED_SLICE",
    "CONCATENATION", "MAXIMUM", "MINIMUM", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE",
    "SPACE_TO_DEPTH", "REDUCE_MAX", "REDUCE_MIN", "TILE", "BROADCAST_TO", "RELU", "RELU6", "RELU_N1_TO_1", "NEG",
}  # fmt: skip
_FIXED = {"LOGISTIC": (1 / 256, 0), "SOFTMAX": (1 / 256, 0), "TANH": (1 / 128, 128), "LOG_SOFTMAX": (16 / 256, 255)}
_MARGIN = 1.25


def fixed(name: str, dtype: np.dtype[Any]) -> Quantised | None:
    """The grid that a kernel insists on for its output of 8-bit codes, or None."""
    if name not in _FIXED or dtype.itemsize != 1:
        return None
    scale, zero = _FIXED[name]
    return np.array([scale], np.float32), np.array([zero - (128 if dtype == np.int8 else 0)], np.int64), 0


def covering(values: Array, dtype: np.dtype[Any]) -> Quantised:
    """A grid for values of which these are examples; with a margin, since others may reach further."""
    limits = np.iinfo(dtype)
    low, high = (_MARGIN * min(float(values.min(initial=0)), 0.0), _MARGIN * max(float(values.max(initial=0)), 0.0))
    scale = max((high - low) / (int(limits.max) - int(limits.min)), 1e-8)
    zero = int(np.clip(round(int(limits.min) - low / scale), limits.min, limits.max))
    return np.array([scale], np.float32), np.array([zero], np.int64), 0


def of_constant(values: Array, dtype: np.dtype[Any]) -> tuple[Array, Quantised]:
    """A constant as codes: symmetric, so that a single number is met exactly."""
    limits = np.iinfo(dtype)
    zero = 128 if dtype == np.uint8 else 0
    reach = min(int(limits.max) - zero, zero - int(limits.min)) if zero else int(limits.max)
    scale = max(float(np.abs(values).max(initial=0)) / reach, 1e-12)
    codes = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(dtype)
    return codes, (np.array([scale], np.float32), np.array([zero], np.int64), 0)


def by_channel(values: Array, axis: int, dtype: np.dtype[Any]) -> tuple[Array, Quantised]:
    """Weights as signed codes with a scale for each place along an axis."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(axis=others) / np.iinfo(dtype).max, np.finfo(np.float32).tiny)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    codes = np.round(values / scale.reshape(shape)).astype(dtype)
    return codes, (scale.astype(np.float32), np.zeros(scale.size, np.int64), axis)


def native_axis(turn: Callable[[Array], Array], shape: tuple[int, ...], axis: int) -> int:
    """Where an axis of ONNX's order lies natively."""
    if not shape:
        return 0
    steps = np.broadcast_to(
        np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
    )
    turned = turn(np.array(steps))
    varying = [i for i in range(turned.ndim) if turned.shape[i] > 1 and np.any(np.diff(turned, axis=i))]
    return varying[0] if varying else 0
