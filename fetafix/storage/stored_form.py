"""The form in which a protected tensor is stored beside the few numbers that reading it takes.

    value = x if |x| ≤ bound else 0,  x = stored · factor      in float32; NaN is not ≤ anything

Any runtime can read it with a cast, a product, a comparison and a choice; `factor` is the inverse of what the weights
were multiplied by (arXiv 2411.18993), for fixed point times its step. Floats are only ever scaled up, and by powers of
two, so that reading is exact for every value, subnormals and −0 among them. Each constant is stored three times and
read by majority: `vote`. A fixed-point format whose bits do not fill an integer type fills its upper bits, so that what
strikes the idle ones is less than a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.storage.constants import constants, spread
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Encoding, Fixed
from fetafix.storage.schemes import Plan

Array = npt.NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_FLOATS: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": BFLOAT16}
_MANTISSA = {np.dtype(np.float32): 23, np.dtype(np.float16): 10, BFLOAT16: 7}
_TINY = {np.dtype(np.float32): 2.0**-150, np.dtype(np.float16): 2.0**-25, BFLOAT16: 2.0**-134}  # half the least step
_HIGHEST = 2.0**126  # its inverse is still a normal float32
IN_PLACE = ("none", "scale", "ceiling", "guard")


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How stored values read. factor, bound: float32, () or a channel each along `axis`; None: left out."""

    factor: Array | None = None
    bound: Array | None = None
    axis: int | None = None


def container(to: Encoding) -> np.dtype[Any]:
    """The dtype that a format is stored in: int8, int16 or int32 for fixed point."""
    if isinstance(to, Fixed):
        return np.dtype(next(f"int{n}" for n in (8, 16, 32) if n >= to.bits))
    return _FLOATS[to.name]


def dtype_encoding(dtype: np.dtype[Any]) -> Encoding | None:
    """The number format of weights as they are; None for those that no scheme knows (float64, float8)."""
    return {np.dtype(np.float32): FP32, np.dtype(np.float16): FP16, BFLOAT16: BF16}.get(dtype)


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite value of a float that weights are stored in."""
    return next(encoding.limit for encoding in (FP32, FP16, BF16) if _FLOATS[encoding.name] == dtype)


def formed(weights: Array, plan: Plan) -> tuple[Array, Form]:
    """Finite weights, float32 of any shape, as they are stored: (stored, form).

    Raises UsageError for a scheme that no arithmetic reads (secded).
    """
    if plan.scheme not in IN_PLACE:
        raise UsageError(f"{plan.scheme} needs a decoder; {', '.join(IN_PLACE)} are read by arithmetic alone")
    axis = plan.axis if weights.ndim > 1 else None
    factor = _factor(weights, plan, axis)
    stored = _stored(weights, plan.encoding, factor, axis)
    plain = bool((factor == 1).all()) if factor is not None else True
    form = Form(None if plain else factor, None, axis)
    return stored, Form(form.factor, _bound(stored, form, plan, factor), axis)


def _factor(weights: Array, plan: Plan, axis: int | None) -> Array | None:
    """What stored values are multiplied by when read, float32."""
    to = plan.encoding
    shift = 0 if not isinstance(to, Fixed) else container(to).itemsize * 8 - to.bits
    if isinstance(to, Fixed):
        scaled = plan.scheme == "scale" or to == INT8
        rule = plan.rule if plan.scheme == "scale" else "max"
        up = constants(weights, to, rule, axis, plan.ber) if scaled else np.ones(())
        return np.asarray(np.maximum(2.0 ** -(to.fraction + shift) / up, 2.0**-126), np.float32)
    if plan.scheme not in ("scale", "ceiling"):
        return None
    up = constants(weights, to, "pow2", axis)
    if plan.scheme == "scale":
        up = up / np.exp2(np.floor(np.log2(to.limit)))  # to [1, 2): beyond that it would be `ceiling`, which clips
    return np.asarray(1.0 / np.clip(up, 1.0, _HIGHEST), np.float32)


def _stored(weights: Array, to: Encoding, factor: Array | None, axis: int | None) -> Array:
    if isinstance(to, Fixed):
        assert factor is not None
        kind, top = container(to), 2 ** (to.bits - 1)
        shift = kind.itemsize * 8 - to.bits
        step = spread(factor, weights.shape, axis) * 2.0**shift
        codes = np.clip(np.rint(np.asarray(weights, np.float64) / step), -top, top - 1)
        return np.asarray(codes * 2.0**shift).astype(kind)
    up = 1.0 if factor is None else 1.0 / spread(factor, weights.shape, axis)
    return to.encode(np.asarray(weights, np.float64) * up).view(container(to)).reshape(weights.shape)


def _bound(stored: Array, form: Form, plan: Plan, factor: Array | None) -> Array | None:
    if plan.scheme == "ceiling" and not plan.guarded:
        return np.asarray(np.float32(plan.encoding.limit) * (np.float32(1) if factor is None else factor), np.float32)
    if plan.scheme != "guard" and not plan.guarded:
        return None
    others = tuple(i for i in range(stored.ndim) if i != form.axis) if form.axis is not None else None
    return np.asarray(np.abs(read(stored, form)).max(axis=others, initial=0.0), np.float32)


def read(stored: Array, form: Form) -> Array:
    """What stored values, flips and all, read as: float32, with the roundings that any runtime makes."""
    values = stored.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if form.factor is not None:
            values = values * spread32(form.factor, stored.ndim, form.axis)
        if form.bound is not None:
            within = np.abs(values) <= spread32(form.bound, stored.ndim, form.axis)
            values = np.where(within, values, np.float32(0))
    return np.asarray(values, np.float32)


def spread32(constant: Array, rank: int, axis: int | None) -> Array:
    """A constant in the shape that broadcasts over a tensor of this rank, float32."""
    flat = np.asarray(constant, np.float32)
    if axis is None or flat.ndim == 0:
        return flat.reshape((1,) * rank)
    return flat.reshape([-1 if i == axis else 1 for i in range(rank)])


def vote(copies: Array) -> Array:
    """Three copies (3, …) → what two of them say; the third where the first two differ."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(copies[0] == copies[1], copies[0], copies[2]))


def error_bound(weights: Array, stored: Array, form: Form) -> Array:
    """How far from the weights a fault-free reading may lie, float64 of their shape.

    Half a step of the stored format, the rounding of the product, and what the format's largest value clips.
    """
    size = np.abs(np.asarray(weights, np.float64))
    factor = 1.0 if form.factor is None else spread32(form.factor, stored.ndim, form.axis).astype(np.float64)
    if stored.dtype.kind == "i":
        used = int(np.bitwise_or.reduce(stored.astype(np.int64), axis=None)) if stored.size else 1
        step = float(used & -used) if used else 1.0  # idle low bits belong to the step
        top = 2.0 ** (stored.dtype.itemsize * 8 - 1) - step
        return np.asarray(np.maximum(step * factor / 2, size - top * factor) + size * 2.0**-22)
    if stored.dtype == np.float32:
        return np.zeros_like(size)
    limit = largest(stored.dtype)
    rounding = size * 2.0 ** -(_MANTISSA[stored.dtype] + 1) + _TINY[stored.dtype] * factor
    return np.asarray(np.maximum(rounding, size - limit * factor))
