"""Numbers on a grid: real value = (code − zero point) · scale, per tensor or per slice of one axis.

The formula and its rounding (half to even, saturating) are those of ONNX's QuantizeLinear and DequantizeLinear, which
are TFLite's too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_SMALLEST = 1e-30
_FLOAT_NAME = re.compile(r"(?<![a-z])(float(32)?|fp32|f32)(?![a-z0-9])", re.IGNORECASE)


def named_float(path: str) -> str | None:
    """What in a file's name says that it is a float model ("float32"); None where nothing does."""
    found = _FLOAT_NAME.search(PurePath(path).stem)
    return found[0] if found else None


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """scale: () or (n,), float. zero_point: like scale, an integer. axis: of the n slices, None for a whole tensor.

    dtype: of the codes (int8, uint8, int16, uint16, int32).
    """

    scale: _Array
    zero_point: _Array
    axis: int | None
    dtype: np.dtype[Any]

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def along(self, vector: _Array, rank: int) -> _Array:
        """A scalar or a value per slice, shaped to broadcast over a tensor of this rank."""
        if self.axis is None or vector.size == 1:
            return vector.reshape(())
        shape = [1] * rank
        shape[self.axis % rank] = vector.size
        return vector.reshape(shape)

    def same_steps(self, other: Grid) -> bool:
        """Whether both grids have the same scales, in any order."""
        ours, theirs = (np.sort(g.scale.astype(np.float64).ravel()) for g in (self, other))
        return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=1e-6))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape has as many slices as there are scales."""
        return self.scale.size == 1 or (self.axis is not None and -len(shape) <= self.axis < len(shape)
                                        and shape[self.axis] == self.scale.size)

    def values(self, codes: _Array) -> _Array:
        """Real numbers of codes, in the scale's float type."""
        zero = self.along(self.zero_point, codes.ndim).astype(np.int64)
        return ((codes.astype(np.int64) - zero).astype(self.scale.dtype) * self.along(self.scale, codes.ndim))

    def codes(self, values: _Array) -> _Array:
        """The nearest codes of real numbers, saturating; 0 for those that are not finite."""
        off = self.along(self.zero_point, values.ndim).astype(np.float64)
        scaled = np.asarray(values, np.float64) / np.maximum(self.along(self.scale, values.ndim), _SMALLEST)
        return np.clip(np.rint(np.nan_to_num(scaled)) + off, *self.bounds).astype(self.dtype)

    def step(self, rank: int) -> _Array:
        """The distance of neighbouring values, shaped to broadcast over a tensor of this rank, float64."""
        return self.along(np.abs(self.scale.astype(np.float64)), rank)

    def covering(self, values: _Array) -> Grid:
        """The same grid, with a larger scale for the slices that would saturate by more than half a step."""
        low, high = self.bounds
        zero = self.along(self.zero_point, values.ndim).astype(np.float64)
        room = np.where(values >= 0, high - zero, zero - low)
        with np.errstate(divide="ignore", invalid="ignore"):
            need = np.where(values == 0, 0.0, np.abs(values) / np.maximum(room, 0))
            over = np.abs(values) > (room + 0.5) * self.step(values.ndim)
        axes = tuple(i for i in range(values.ndim) if self.scale.size == 1 or i != (self.axis or 0) % values.ndim)
        wanted = np.max(np.where(over & np.isfinite(need), need, 0.0), axis=axes, initial=0.0).reshape(self.scale.shape)
        if not np.any(wanted > 0):
            return self
        scale = np.where(wanted > 0, wanted, self.scale).astype(self.scale.dtype)
        return replace(self, scale=scale)


def grid_for(low: _Array, high: _Array, dtype: np.dtype[Any], symmetric: bool, axis: int | None = None) -> Grid:
    """The grid of a code type that covers low…high (scalars or one pair a slice), zero included.

    symmetric: the zero point is 0 (signed types) and the code −128 stays unused, as for weights.
    """
    info = np.iinfo(dtype)
    low, high = np.minimum(low, 0.0).astype(np.float64), np.maximum(high, 0.0).astype(np.float64)
    if symmetric:
        scale = np.maximum(np.maximum(-low, high) / info.max, _SMALLEST)
        zero = np.zeros(scale.shape)
    else:
        scale = np.maximum((high - low) / (int(info.max) - int(info.min)), _SMALLEST)
        zero = np.clip(np.rint(info.min - low / scale), info.min, info.max)
    return Grid(np.asarray(scale, np.float32), np.asarray(zero).astype(dtype), axis, np.dtype(dtype))
