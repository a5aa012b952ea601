"""Arithmetic of GF(256), field polynomial x⁸+x⁴+x³+x²+1 (0x11D), generator 2, by tables."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_POLYNOMIAL = 0x11D


@cache
def powers() -> Array:
    """2^0 … 2^509, uint8 (510,): long enough for the sum of two logarithms."""
    found, value = np.zeros(510, np.uint8), 1
    for i in range(255):
        found[i] = found[i + 255] = value
        value = value << 1 ^ (_POLYNOMIAL if value & 0x80 else 0)
    return found


@cache
def logs() -> Array:
    """Logarithms to the base 2, int64 (256,); that of 0 is 0 and means nothing."""
    found = np.zeros(256, np.int64)
    found[powers()[:255]] = np.arange(255)
    return found


@cache
def product() -> Array:
    """The multiplication table, uint8 (256, 256)."""
    table: Array = powers()[logs()[:, None] + logs()[None, :]]
    table[0, :] = table[:, 0] = 0
    return table


@cache
def inverse() -> Array:
    """Inverses, uint8 (256,); that of 0 is 0 and means nothing."""
    found: Array = powers()[255 - logs()]
    found[0] = 0
    return found


def times(a: Array, b: Array) -> Array:
    """Products, element by element, uint8; shapes broadcast."""
    return np.asarray(product()[a, b])
