"""Weights compared without regard to order: fingerprints of values, and the reordering between two tensors.

Converters permute weights on purpose (Keras keeps HWIO, ONNX OIHW) and by mistake. Two tensors with equal sorted values
hold the same numbers in another order; `permutation` then names the order. All of it is tolerant to float noise.
"""

from __future__ import annotations

import numpy as np

from fetafix.ir import Array

NOISE = 1e-5


def close(a: Array, b: Array, noise: float = NOISE) -> bool:
    """Whether two tensors of one shape are equal up to `noise` relative to their largest finite magnitude."""
    if a.shape != b.shape:
        return False
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return bool(np.array_equal(x, y, equal_nan=True))
    scale = float(np.max(np.abs(y), initial=0.0))
    return bool(np.max(np.abs(x - y), initial=0.0) <= noise * scale)


def fingerprint(value: Array) -> Array:
    """The sorted values, float64: equal for every reordering of a tensor."""
    return np.sort(np.asarray(value, np.float64).ravel())


def alike(a: Array, b: Array, noise: float = NOISE) -> bool:
    """Whether two tensors hold the same values in any order and shape."""
    return a.size == b.size and close(fingerprint(a), fingerprint(b), noise)
