"""Which bit-error rates are tried, and the random flips of each trial.

    rates("1e-8..1e-2")            one a decade
    flips_of(seed, 1e-5, 17, bits) positions of the flips of trial 17 at that rate

The flips rest on these numbers alone: the same for every model with so many bits, and for ever.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.storage import flips

Array = npt.NDArray[Any]


def rates(text: str, per_decade: int = 1) -> tuple[float, ...]:
    """Bit-error rates, ascending: "low..high" with so many a decade, or a list "1e-6,3e-5". Raises UsageError."""
    low, dots, high = text.partition("..")
    if dots:
        first, last = _rate(low), _rate(high)
        if not 0 < first <= last:
            raise UsageError(f"--ber {text!r}: expected LOW..HIGH with 0 < LOW ≤ HIGH, such as 1e-8..1e-2")
        start = math.log10(first)
        steps = math.floor((math.log10(last) - start) * per_decade + 1e-9)
        made = [float(f"{10 ** (start + k / per_decade):.3g}") for k in range(steps + 1)]
        return tuple(dict.fromkeys([first, *made[1:], *([last] if made[-1] < last * (1 - 1e-3) else [])]))
    return tuple(sorted({_rate(part) for part in text.split(",")}))


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"expected a bit-error rate between 0 and 1, such as 1e-5, found {text.strip()!r}")
    return value


def flips_of(seed: int, ber: float, trial: int, bits: int) -> Array:
    """Positions of a trial's flips among `bits` bits, sorted, int64. The same for the same four numbers."""
    rate = int(np.float64(ber).view(np.uint64))
    return flips.positions(np.random.default_rng([seed, rate, trial]), bits, ber)


def untouched(bits: int, ber: float) -> float:
    """The probability that none of so many bits flips: (1 − BER)^bits."""
    return math.exp(bits * math.log1p(-ber)) if ber < 1 else float(bits == 0)


def rate_untouched(bits: int, probability: float) -> float:
    """The bit-error rate at which none of so many bits flips with this probability; 1 where there are no bits."""
    return -math.expm1(math.log(probability) / bits) if bits else 1.0
