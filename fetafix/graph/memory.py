"""Memory order: the bytes of a tensor written in one order of axes and read in the reverse one."""

from __future__ import annotations

import numpy as np

from fetafix.graph.weights import alike, close
from fetafix.ir import Array


def reversals(value: Array) -> list[Array]:
    """What a tensor of rank ≥ 2 becomes where its strides are lost, in its own shape: both ways of that."""
    written = value.T.reshape(value.shape)
    read = value.reshape(value.shape[::-1]).T
    return [np.ascontiguousarray(written), np.ascontiguousarray(read)]


def telling(shape: tuple[int, ...]) -> bool:
    """Whether lost strides of a weight of this shape are nothing else: neither a matrix transposed nor HWIO for OIHW.

    Both are the same bytes for a square matrix, for kernels of one spatial axis, or one long one.
    """
    long = [d for d in shape if d > 1]
    if len(shape) == 2:
        return len(long) == 2 and shape[0] != shape[1]
    return (len(shape) == 3 and len(long) == 2 and shape[0] == 1) or len([d for d in shape[2:] if d > 1]) > 1


def lost_strides(value: Array, reference: Array, noise: float) -> bool:
    """Whether a tensor holds the reference's bytes as if in C order where they lie in Fortran order, or the reverse."""
    if value.shape != reference.shape or value.ndim < 2 or not telling(value.shape):
        return False
    if not alike(value, reference, noise) or close(value, reference, noise):
        return False
    return any(close(value, r, noise) for r in reversals(reference))


def restored(value: Array, reference: Array, noise: float) -> Array:
    """The target's own values in the reference's order; for a tensor of which `lost_strides` holds."""
    return next(r for r in reversals(value) if close(r, reference, noise))
