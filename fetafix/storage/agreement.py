"""Whether the errors that flips were seen to make are those that the prediction says: two tests, and when to trust it.

The prediction (`prediction`) knows for each bit of each tensor the mean of error², the mean of error⁴ and the share of
wrecked values. At a bit-error rate p a bit of a value flips alone with the probability q = p · (1 − p)^(bits − 1); so
over n trials, of values struck once,

    Σ error²    has the mean n · q · Σ size · Σ_bits E[error²] and the variance n · q · Σ size · Σ_bits E[error⁴];
    wrecks      are Poisson with the mean n · q · Σ size · Σ_bits P(wrecked).

Errors of floats are so unevenly spread that no normal approximation holds. So Σ error² is judged by Chebyshev's
inequality, P(|x − mean| ≥ k · deviation) ≤ 1 / k², which holds for every distribution, and wrecks by the exact
two-sided Poisson tail. Either below `ALPHA` is a disagreement. Values struck more than once are beyond the prediction;
where they make most of the error or of the wrecks, that is a disagreement too, which says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.storage.prediction import Prediction

Array = npt.NDArray[Any]
ALPHA = 0.001
_LARGE = 1e4


@dataclass(frozen=True, slots=True)
class Expected:
    """Per unit of bit-error rate and trial, summed over tensors. squares, fourths: of error² and error⁴; wrecked:
    values. size: values in all; bits: of the widest of them.
    """

    squares: float
    fourths: float
    wrecked: float
    size: int
    bits: int

    def rms(self, ber: float) -> float:
        """RMS error of a weight at a bit-error rate, flips alone; single flips."""
        return math.sqrt(ber * self.squares / self.size) if self.size else 0.0

    def whole(self, ber: float) -> float:
        """Probability that no value is wrecked in a trial."""
        return math.exp(-ber * self.wrecked)


@dataclass(frozen=True, slots=True)
class Seen:
    """Errors that flips made in `trials` trials. squares: Σ error² where finite; wrecked: values, over all trials.

    Both of values struck once; more_squares, more_wrecked: of those struck more often.
    """

    trials: int = 0
    squares: float = 0.0
    wrecked: int = 0
    more_squares: float = 0.0
    more_wrecked: int = 0

    def __add__(self, other: Seen) -> Seen:
        """Both together, of the same trials or of others as the caller counts them."""
        return Seen(self.trials + other.trials, self.squares + other.squares, self.wrecked + other.wrecked,
                    self.more_squares + other.more_squares, self.more_wrecked + other.more_wrecked)

    def rms(self, size: int) -> float:
        """RMS error of a weight in a trial, of `size` weights."""
        total = self.squares + self.more_squares
        return math.sqrt(total / (self.trials * size)) if self.trials and size else 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """p_rms, p_wrecked: how probable at most so large a deviation is, were the prediction true. why: "" or in words."""

    p_rms: float
    p_wrecked: float
    why: str

    @property
    def agrees(self) -> bool:
        """Whether neither test says otherwise."""
        return not self.why


def expected(parts: Iterable[tuple[Prediction, int]]) -> Expected:
    """Of tensors: (prediction, values)."""
    squares = fourths = wrecked = 0.0
    total = widest = 0
    for prediction, size in parts:
        squares += size * sum(b.finite * b.rms**2 for b in prediction.bits)
        fourths += size * sum(b.finite * b.fourth for b in prediction.bits)
        wrecked += size * sum(b.wrecked for b in prediction.bits)
        total, widest = total + size, max(widest, len(prediction.bits))
    return Expected(squares, fourths, wrecked, total, widest)


def errors(read: Array, clean: Array, largest: float, once: Array) -> Seen:
    """What flips did to values as read after them, both (n,); once: which are struck once. Counts no trial."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(read.astype(np.float64) - clean)
    squares = np.square(np.where(np.isfinite(off), off, 0.0))
    wrecked = ~(off <= 2.0 * largest)
    return Seen(0, float(squares[once].sum()), int(wrecked[once].sum()), float(squares[~once].sum()),
                int(wrecked[~once].sum()))


def compare(wanted: Expected, seen: Seen, ber: float) -> Agreement:
    """Judge what was seen."""
    rate = seen.trials * ber * (1.0 - ber) ** (wanted.bits - 1)
    mean, deviation = rate * wanted.squares, math.sqrt(rate * wanted.fourths)
    off = abs(seen.squares - mean)
    p_rms = 1.0 if off <= deviation + 1e-9 * mean else (deviation / off) ** 2
    p_wrecked = poisson(seen.wrecked, rate * wanted.wrecked)
    return Agreement(p_rms, p_wrecked, _why(p_rms, p_wrecked, seen, wanted, ber))


def _why(p_rms: float, p_wrecked: float, seen: Seen, wanted: Expected, ber: float) -> str:
    which = [name for name, p in (("RMS error", p_rms), ("wrecked weights", p_wrecked)) if p < ALPHA]
    if which:
        return f"{' and '.join(which)} of single flips not as predicted (p < {ALPHA:g})"
    mostly = [name for name, more, one in (("the RMS error", seen.more_squares, seen.squares),
                                           ("the wrecked weights", seen.more_wrecked, seen.wrecked)) if more > one]
    if not mostly:
        return ""
    return (f"most of {' and of '.join(mostly)} comes of weights struck more than once "
            f"({crowded(wanted.bits, ber):.2g} of those struck), which the prediction leaves out")


def crowded(bits: int, ber: float) -> float:
    """Share of struck values of so many bits that are struck more than once."""
    struck = -math.expm1(bits * math.log1p(-ber)) if ber < 1 else 1.0
    once = bits * ber * math.exp((bits - 1) * math.log1p(-ber)) if ber < 1 else 0.0
    return 1.0 - once / struck if struck > 0 else 0.0


def poisson(count: int, mean: float) -> float:
    """The two-sided p of a count: twice the smaller tail, at most 1; exact up to a mean of `_LARGE`, then normal."""
    if mean <= 0:
        return 1.0 if count == 0 else 0.0
    if mean > _LARGE:
        return math.erfc(max(0.0, abs(count - mean) - 0.5) / math.sqrt(2.0 * mean))
    return min(1.0, 2.0 * min(_tail(range(count + 1), mean), 1.0 - _tail(range(count), mean) if count < mean
                              else _upper(count, mean)))


def _tail(counts: Sequence[int], mean: float) -> float:
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in counts)


def _upper(count: int, mean: float) -> float:
    """P(X ≥ count) for a count at or above the mean: terms shrink, until they no longer count."""
    total, term = 0.0, math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    while term > total * 1e-17 and term > 0:
        total += term
        count += 1
        term *= mean / count
    return total
