"""Schemes ranked by what the analytic prediction says of each weight at the design bit-error rate.

Single flips are predicted bit by bit (`fetafix.storage.prediction`) on a part of each tensor that keeps every channel's
largest value, so that constants and bounds are those of the whole. SECDED corrects every single flip; what is left are
words of two flips (detected: the weight becomes 0) and of three, which count as wrecked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.harden.asked import KEEP, Granularity, Scheme, Wish
from fetafix.harden.report import Ranked
from fetafix.storage.encodings import encoding
from fetafix.storage.holding import Held
from fetafix.storage.prediction import predict
from fetafix.storage.schemes import Plan
from fetafix.storage.sidecar import expected_lost
from fetafix.storage.stored_form import container, dtype_encoding

Array = npt.NDArray[Any]
_MOST, _COPIES, _CONSTANT = 8192, 3, 4
FREE, _DECODER, _LOADER = "none: folded at load", "decoded before use", "restored before use"
NO_CONSTANTS = ("none", "secded")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A weight, and a part of its values in which every channel has its largest."""

    held: Held
    values: Array
    axis: int | None

    @property
    def power(self) -> float:
        """The mean square of its values."""
        return float(np.mean(np.square(self.values, dtype=np.float64))) if self.values.size else 0.0


def part(held: Held, values: Array, seed: int = 0) -> Part:
    """A part of a weight with at most about 8,000 values, channels first."""
    axis = held.axis if held.axis is not None and values.ndim > 1 else 0
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis] if values.ndim else 1, -1)
    keep = max(2, _MOST // max(1, rows.shape[0]))
    if rows.shape[1] > keep:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(rows.shape[1], keep - 1, replace=False))
        largest = np.abs(rows).argmax(1)
        rows = np.concatenate([rows[:, chosen], np.take_along_axis(rows, largest[:, None], 1)], 1)
    return Part(held, np.ascontiguousarray(rows, np.float32), held.axis)


def figures(of: Part, plan: Plan, ber: float) -> tuple[float, float]:
    """(RMS error relative to the weight's RMS, wrecked weights) at a bit-error rate."""
    small = Plan(plan.encoding, plan.scheme, None if plan.axis is None else 0, plan.rule, plan.ber, plan.guarded)
    power = of.power or 1.0
    if plan.scheme == "secded":
        double, triple = math.comb(32, 2) * ber**2, math.comb(32, 3) * ber**3
        return math.sqrt(double + 2.0**-38), of.held.size * triple
    found = predict(of.values, small, of.values.size)
    with np.errstate(over="ignore"):
        return float(found.expected_rms(ber) / math.sqrt(power)), found.expected_wrecked(ber, of.held.size)


def rank(parts: Sequence[Part], wish: Wish, allowed: Iterable[Scheme], file_size: int) -> list[Ranked]:
    """Every scheme that is allowed and makes sense, best first, and the weights as they are for comparison."""
    rows = [_row(parts, wish, "none", "tensor", file_size)]
    for scheme in allowed:
        if scheme == "rs":
            rows.append(_beside(parts, wish, file_size))
            continue
        for granularity in ("channel", "tensor") if scheme != "secded" else ("tensor",):
            if _sensible(scheme, wish):
                rows.append(_row(parts, wish, scheme, granularity, file_size))
    return sorted(rows, key=order)


def order(row: Ranked) -> tuple[float, float, float]:
    """Fewest wrecked weights first (less than half a one counts as none), then the least error, then the least size."""
    return row.wrecked if row.wrecked >= 0.5 else 0.0, float(f"{row.rms:.3g}"), row.size


def _sensible(scheme: Scheme, wish: Wish) -> bool:
    to = None if wish.dtype == KEEP else encoding(wish.dtype)
    if to is None:
        return True
    return not (scheme == "secded" and to.name != "fp32") and not (scheme == "ceiling" and not to.floating)


def _row(parts: Sequence[Part], wish: Wish, scheme: str, granularity: Granularity, file_size: int) -> Ranked:
    squares, wrecked, bytes_, values = 0.0, 0.0, 0, 0
    for of in parts:
        plan = _plan(of, wish, scheme, granularity)
        if plan is None:
            continue
        rms, broken = figures(of, plan, wish.design_ber)
        squares, wrecked, values = squares + rms**2 * of.held.size, wrecked + broken, values + of.held.size
        bytes_ += of.held.size * (container(plan.encoding).itemsize - of.held.dtype.itemsize) + _constants(of, plan)
    return Ranked(
        scheme=scheme, dtype=wish.dtype, granularity="word" if scheme == "secded" else granularity,
        rms=math.sqrt(squares / values) if values else 0.0, wrecked=wrecked, size=1.0 + bytes_ / file_size,
        cost=_DECODER if scheme == "secded" else FREE if scheme != "none" else "none", stock=scheme != "secded")


def _plan(of: Part, wish: Wish, scheme: str, granularity: Granularity) -> Plan | None:
    if scheme == "none":
        to = dtype_encoding(of.held.dtype) if wish.dtype == KEEP else encoding(wish.dtype)
        return Plan(to) if to is not None else None
    found = wish.by(scheme, granularity).plan(of.held, of.values)  # type: ignore[arg-type]
    return found if isinstance(found, Plan) else None


def _constants(of: Part, plan: Plan) -> int:
    """Bytes of the constants in their three copies."""
    if plan.scheme in NO_CONSTANTS:
        return 0
    channels = of.held.shape[plan.axis] if plan.axis is not None else 1
    kinds = int(plan.scheme != "guard" or not plan.encoding.floating) + int(plan.scheme != "scale")
    return _COPIES * _CONSTANT * channels * kinds


def checks_for(size: int, ber: float) -> int:
    """Check bytes a codeword: 16, or more where that leaves a codeword in a hundred files beyond repair."""
    return next((c for c in (16, 32, 64) if expected_lost(size, c, ber) < 1e-2), 128)


def _beside(parts: Sequence[Part], wish: Wish, file_size: int) -> Ranked:
    """The file of check bytes; a codeword beyond repair keeps the wrong bytes that it has."""
    checks = checks_for(file_size, wish.design_ber)
    lost = expected_lost(file_size, checks, wish.design_ber)
    plain = _row(parts, wish, "none", "tensor", file_size)
    share = lost * 255 / max(1, file_size)
    return Ranked(scheme="rs", dtype=KEEP, granularity="file", rms=plain.rms * math.sqrt(min(1.0, share)) if lost > 1e-3
                  else 0.0, wrecked=plain.wrecked * min(1.0, share), size=1.0 + checks / (255 - checks), cost=_LOADER,
                  stock=False)
