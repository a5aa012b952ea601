"""What weights are multiplied by before they are stored, and divided by when they are read.

Flips strike the stored value, so an error is divided by the constant, too: as large as the format allows is best
(arXiv 2411.18993), up to what clips.

    max     the largest magnitude becomes the format's largest
    pow2    the largest power of two below that: exact for floats, a shift for fixed point
    mse     fixed point at a known bit-error rate: clipping the largest weights may cost less than it gains: what
            makes the expected squared error of clipping, rounding and single flips least
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fetafix.storage.encodings import Encoding

Array = npt.NDArray[Any]
Rule = Literal["max", "pow2", "mse"]
_SHRINKS = np.geomspace(1.0, 64.0, 61)  # tried clips: from the largest weight down to a 64th of it


def constants(weights: Array, to: Encoding, rule: Rule = "max", axis: int | None = None, ber: float = 1e-4) -> Array:
    """One constant a tensor (shape ()), or one a channel along `axis` (shape (channels,)), float64.

    weights: float32 of any shape. A tensor or channel of zeros gets 1.
    """
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    largest = np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(1, initial=0.0).astype(np.float64)
    full = np.where(largest > 0, to.limit / np.where(largest > 0, largest, 1.0), 1.0)
    if rule == "pow2" or to.floating:
        full = np.exp2(np.floor(np.log2(full)))
    elif rule == "mse":
        full = np.array([_least(row, c, to, ber) for row, c in zip(rows.astype(np.float64), full, strict=True)])
    return full[0] if axis is None else full


def spread(constants_: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """Constants in a form that multiplies a tensor of this shape."""
    if axis is None:
        return np.asarray(constants_, np.float64)
    return np.asarray(constants_, np.float64).reshape([-1 if i == axis else 1 for i in range(len(shape))])


def _least(row: Array, full: float, to: Encoding, ber: float) -> float:
    """The constant with the least expected squared error: (decode(encode(w·c))/c − w)² + ber · Σ_bits (2^b·step/c)²."""
    step = 2.0 * to.limit / 2.0**to.bits
    flips = ber * float(np.sum((step * np.exp2(np.arange(to.bits))) ** 2))
    costs = []
    for c in full * _SHRINKS:
        rounded = to.decode(to.encode(row * c)).astype(np.float64) / c
        costs.append(float(np.mean((rounded - row) ** 2)) + flips / c**2)
    return float(full * _SHRINKS[int(np.argmin(costs))])
