"""One constant in two layouts: the way from an ONNX initializer back to the TensorFlow tensor that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from fetafix.ir import Array

Way = Callable[[Array], Array]
# ONNX's weight layouts from TensorFlow's: what to try before other permutations that may fit as well
_FIRST: dict[str, tuple[tuple[int, ...], ...]] = {
    "Conv": ((3, 2, 0, 1), (2, 3, 0, 1), (4, 3, 0, 1, 2), (2, 1, 0)),
    "ConvTranspose": ((3, 2, 0, 1), (2, 3, 0, 1)),
    "Gemm": ((0, 1), (1, 0)),
    "MatMul": ((0, 1), (1, 0)),
}


def find(native: Array, old: Array, op: str = "", slot: int = 1) -> Way | None:
    """How to make the native tensor of an ONNX tensor, if `old` was made from `native`; None where it was not.

    Tried are the same values in another shape or order of axes, and a transposed axis pair before a reshape, as tf2onnx
    does with depthwise kernels (height, width, channels, multiplier) → (channels · multiplier, 1, height, width).
    """
    if native.size != old.size or native.dtype.kind != old.dtype.kind or not native.size:
        return None
    perms = [p for p in _FIRST.get(op, ()) if slot == 1 and len(p) == native.ndim] if slot == 1 else []
    perms += [p for p in permutations(range(native.ndim)) if p not in perms] if native.ndim <= 5 else []
    for perm in perms:
        turned = native.transpose(perm)
        if turned.shape == old.shape and _same(turned, old):
            return _turned(perm, native.dtype)
    if native.ndim != old.ndim or native.ndim == 4:
        for perm in perms:
            if _same(native.transpose(perm).reshape(old.shape), old):
                return _reshaped(perm, native)
    return None


def _same(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a.astype(b.dtype), b, equal_nan=b.dtype.kind == "f"))


def _turned(perm: tuple[int, ...], dtype: np.dtype[np.generic]) -> Way:
    back = tuple(int(i) for i in np.argsort(perm))
    return lambda new: np.ascontiguousarray(new.transpose(back) if new.ndim == len(back) else new).astype(dtype)


def _reshaped(perm: tuple[int, ...], native: Array) -> Way:
    back = tuple(int(i) for i in np.argsort(perm))
    shape = tuple(native.shape[p] for p in perm)

    def way(new: Array) -> Array:
        if new.size != native.size:
            return np.asarray(new).reshape(-1).astype(native.dtype)
        return np.ascontiguousarray(new.reshape(shape).transpose(back)).astype(native.dtype)

    return way
