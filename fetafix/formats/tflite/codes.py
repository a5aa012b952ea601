"""Integer codes and the real numbers that they stand for: real = (code − zero_point) · scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from fetafix.formats.tflite.records import Quantisation, Tensor
from fetafix.formats.tflite.schema import along
from fetafix.ir import Array

INTEGERS = ("int8", "uint8", "int16")
CODES = (*INTEGERS, "int4", "int32", "int64")


def interface(tensor: Tensor) -> Quantisation | None:
    """The quantisation of an input or output whose codes stand for real numbers; None for other tensors."""
    q = tensor.quantisation
    return q if q is not None and q.per_tensor and tensor.dtype in INTEGERS else None


def quantise(real: Array, q: Quantisation, dtype: str) -> Array:
    """Codes of real numbers, as ONNX's QuantizeLinear and LiteRT's Quantize find them.

    The quotient in float32, rounded half to even, then shifted, then clamped to what the dtype holds; NaN becomes 0.
    """
    limits = np.iinfo(dtype)
    scaled = np.rint(np.nan_to_num(np.asarray(real, np.float32) / q.scale[0], nan=0.0)) + np.float32(q.zero_point[0])
    return np.asarray(np.clip(scaled, limits.min, limits.max), dtype)


def dequantise(codes: Array, q: Quantisation) -> Array:
    """float32 numbers of codes; along the quantisation's axis where it has several scales."""
    zero, scale = (along(v.astype(np.float32), codes.ndim, q.axis) for v in (q.zero_point, q.scale))
    return np.asarray((codes.astype(np.float32) - zero) * scale, np.float32)


def facts(tensor: Tensor, q: Quantisation) -> dict[str, Any]:
    """For `ModelInfo.details`: dtype, scale, zero_point, and the range of real numbers that the codes cover."""
    limits = np.iinfo(tensor.dtype)
    scale, zero = float(q.scale[0]), int(q.zero_point[0])
    span = [(limits.min - zero) * scale, (limits.max - zero) * scale]
    return {"dtype": tensor.dtype, "scale": scale, "zero_point": zero, "range": span}
