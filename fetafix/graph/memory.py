"""Bytes of a tensor read as they were not written: in the reverse order of axes, or some bytes beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fetafix.graph.weights import alike, close
from fetafix.ir import Array

_FARTHEST = 64


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


def bytes_off(value: Array, reference: Array, exact: bool, noise: float) -> int | None:
    """By how many bytes a tensor's data lie late (early: negative) of the reference's; None where they do not.

    exact: the reference may be just what was stored, so that bytes are compared; where that tells nothing (exporters
    fold alike, but for the last bit), and otherwise, whole elements are, up to `noise`. What is merely rolled is no
    such case.
    """
    if value.size < 8 or value.size != reference.size or alike(value, reference, noise):
        return None
    if exact:
        ours, theirs = (np.ascontiguousarray(t).reshape(-1).view(np.uint8) for t in (value, reference))
        found = next(_offsets(ours, theirs, np.array_equal), None)
        if found is not None:
            return found
    found = next(_offsets(value.ravel(), reference.ravel(), lambda a, b: close(a, b, noise)), None)
    return None if found is None else found * value.itemsize


def _offsets(ours: Array, theirs: Array, same: Callable[[Array, Array], bool]) -> Iterator[int]:
    near = range(1, min(_FARTHEST, ours.size // 4) + 1)
    yield from (n for n in near if same(ours[:-n], theirs[n:]))
    yield from (-n for n in near if same(ours[n:], theirs[:-n]))
