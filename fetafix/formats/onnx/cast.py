"""Arrays as an ONNX model declares them: casts to an input's dtype, and bfloat16, which numpy does not know."""

from __future__ import annotations

import numpy as np

from fetafix.errors import InputDataError
from fetafix.ir import Array

BFLOAT16 = "bfloat16"


def fit(name: str, array: Array, dtype: str) -> Array:
    """The array in an input's declared dtype, C-contiguous. bfloat16 comes back as its bits in uint16.

    Floats are rounded to the declared precision; between floats and integers only exact conversions are made. Raises
    InputDataError where values would be lost.
    """
    array = np.asarray(array)
    if dtype == "string":
        return array.astype(object)
    if array.dtype.kind not in "fiub":
        raise InputDataError(f"input {name!r}: expected {dtype}, got {array.dtype}")
    if dtype == BFLOAT16:
        return to_bfloat16(fit(name, array, "float32"))
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return np.asarray(array, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
    if not _kept(array, cast):
        shown = array.ravel()[np.flatnonzero(~_equal(array, cast))[0]]
        raise InputDataError(
            f"input {name!r}: expected {dtype}, got {array.dtype} with values such as {shown} that {dtype} cannot "
            f"hold; convert the data, or choose a preprocessing that ends in {dtype}"
        )
    return np.asarray(cast, order="C")


def _kept(old: Array, new: Array) -> bool:
    return bool(np.all(_equal(old, new)))


def _equal(old: Array, new: Array) -> Array:
    """Where a cast kept the value; between floats, where it did not overflow."""
    if old.dtype.kind == "f" and new.dtype.kind == "f":
        return np.asarray(np.isfinite(old) == np.isfinite(new))
    if old.dtype.kind in "iub" and new.dtype.kind in "iub":
        with np.errstate(over="ignore"):
            return np.asarray((new.astype(old.dtype) == old) & ((old < 0) == (new < 0)))
    # float64 holds every float and every integer below 2**53 exactly
    return np.asarray(old.astype(np.float64) == new.astype(np.float64))


def to_bfloat16(array: Array) -> Array:
    """float32 values rounded to the nearest bfloat16 (ties to even), as uint16 bits; NaN stays NaN."""
    bits = np.asarray(array, np.float32, order="C").view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return np.where(np.isnan(array), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bfloat16(bits: Array) -> Array:
    """bfloat16 bits in uint16 as float32 values."""
    return np.asarray((bits.astype(np.uint32) << 16).view(np.float32))
