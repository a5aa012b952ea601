"""Protections of stored weights: how a tensor is stored, and how it is read back.

    Plan(FP32, "guard", axis=0)    float32; what reads beyond its channel's largest magnitude, or as NaN, becomes 0
    Plan(Q2_5, "scale")            multiplied by a constant before it is stored (arXiv 2411.18993)
    Plan(FP16, "ceiling")          by so large a power of two that the format's own largest value clips; NaN, ∞ → 0
    Plan(FP32, "secded")           a code within each word
    Plan(INT8)                     nothing (a fixed-point format still needs its scale: int8 always has one)

`store` makes of weights what lies in storage, `load` makes of that, flips and all, weights again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.storage import secded
from fetafix.storage.constants import Rule, constants, spread
from fetafix.storage.encodings import FP32, INT8, Encoding

Array = npt.NDArray[Any]
Scheme = Literal["none", "scale", "ceiling", "guard", "secded"]
SCHEMES: tuple[Scheme, ...] = ("none", "scale", "ceiling", "guard", "secded")
_HIGHEST = 2.0**126  # its inverse is still a normal float32, which no runtime flushes to zero


@dataclass(frozen=True, slots=True)
class Plan:
    """How tensors are stored. axis: that of the channels, one constant and bound each; None: one a tensor.

    rule: how the constants of `scale` are chosen. ber: the bit-error rate that the rule "mse" is made for. guarded:
    whether reading also sets to 0 what lies beyond the largest magnitude ("guard" always does).
    """

    encoding: Encoding = FP32
    scheme: Scheme = "none"
    axis: int | None = None
    rule: Rule = "max"
    ber: float = 1e-4
    guarded: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for combinations that make no sense."""
        if self.scheme == "secded" and self.encoding != FP32:
            raise UsageError(f"secded takes check bits from fp32's mantissa; {self.encoding.name} has none to spare")
        if self.scheme == "ceiling" and not self.encoding.floating:
            raise UsageError(f"ceiling needs an exponent, and {self.encoding.name} has none; scale fills it")


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor in storage. codes: unsigned (shape of the weights), what flips strike.

    factors: what the weights were multiplied by, () or (channels,). bounds: largest magnitude as read without a flip,
    () or (channels,), or None. lossless: whether it reads back exactly.
    """

    codes: Array
    plan: Plan
    factors: Array
    bounds: Array | None = None
    lossless: bool = False

    @property
    def bits(self) -> int:
        """Bits in storage."""
        return int(self.codes.size) * self.plan.encoding.bits


def store(weights: Array, plan: Plan) -> Stored:
    """Weights, float32 of any shape, as they are stored."""
    axis = plan.axis if weights.ndim > 1 else None
    plan = replace(plan, axis=axis)
    factors = _factors(weights, plan)
    if plan.scheme == "secded":
        codes = secded.encode(weights)
    else:
        codes = plan.encoding.encode(weights.astype(np.float64) * spread(factors, weights.shape, axis))
    stored = Stored(codes, plan, factors)
    clean = load(stored)
    if plan.scheme == "guard" or plan.guarded:
        others = tuple(i for i in range(weights.ndim) if i != axis)
        stored = replace(stored, bounds=np.abs(clean).max(axis=others if axis is not None else None, initial=0.0))
    return replace(stored, lossless=bool(np.array_equal(clean, weights)))


def load(stored: Stored) -> Array:
    """What is read, float32: as the protection makes it of the codes as they are now."""
    plan = stored.plan
    if plan.scheme == "secded":
        values = secded.decode(stored.codes).values
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            divisor = spread(stored.factors, stored.codes.shape, plan.axis)
            values = (plan.encoding.decode(stored.codes).astype(np.float64) / divisor).astype(np.float32)
    if plan.scheme == "ceiling":
        values = np.where(np.isfinite(values), values, np.float32(0))
    if stored.bounds is not None:
        bound = spread(stored.bounds, stored.codes.shape, plan.axis).astype(np.float32)
        with np.errstate(invalid="ignore"):
            values = np.where(np.abs(values) <= bound, values, np.float32(0))  # NaN is not ≤ anything
    return values


def taken(stored: Stored, elements: Array) -> Stored:
    """Some values of a tensor, by their places in C order, int64 (n,): codes (n,), each with its own constants."""
    axis = stored.plan.axis
    channel = None if axis is None else np.unravel_index(elements, stored.codes.shape)[axis]
    factors = stored.factors if channel is None else stored.factors[channel]
    bounds = stored.bounds if stored.bounds is None or channel is None else stored.bounds[channel]
    plan = replace(stored.plan, axis=None if channel is None else 0)
    return Stored(stored.codes.reshape(-1)[elements], plan, factors, bounds, stored.lossless)


def _factors(weights: Array, plan: Plan) -> Array:
    if plan.scheme == "ceiling":
        return np.minimum(constants(weights, plan.encoding, "pow2", plan.axis), _HIGHEST)
    if plan.scheme == "scale":
        if plan.encoding.floating:  # to [1, 2): beyond that it would be `ceiling`, which clips
            factors = constants(weights, plan.encoding, "pow2", plan.axis)
            return np.asarray(factors / np.exp2(np.floor(np.log2(plan.encoding.limit))))
        return np.asarray(constants(weights, plan.encoding, plan.rule, plan.axis, plan.ber))
    if plan.encoding == INT8:
        return np.asarray(constants(weights, plan.encoding, "max", plan.axis))
    return np.ones(() if plan.axis is None else weights.shape[plan.axis])
