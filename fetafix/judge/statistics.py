"""Exact bounds on a proportion, and a stopping rule that may be looked at after every sample.

`clopper_pearson` is for the figures of a finished run. It must not be used to decide when to stop: whoever looks after
each sample until a 95% interval excludes the limit errs far more often than in 5% of the runs. `Stopping` therefore
holds a *confidence sequence*: intervals that cover the true proportion at all times at once, as confidently as asked.

Sources: C. Clopper, E. Pearson, Biometrika 26 (1934) 404-413; J. Ville, Étude critique de la notion de collectif
(1939); H. Robbins, Annals of Mathematical Statistics 41 (1970) 1397-1409 (mixture martingales); S. Howard, A. Ramdas,
J. McAuliffe, J. Sekhon, Annals of Statistics 49 (2021) 1055-1080 (confidence sequences); W. Press et al., Numerical
Recipes, section 6.4 (continued fraction of the incomplete beta function, after Lentz).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_TINY = 1e-300
_PRIOR = 0.5


def regularised_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) for 0 ≤ x ≤ 1, a > 0, b > 0.

    Relative error below 1e-12 for a + b in the hundreds, 1e-9 in the hundred thousands (cancellation of log-gammas).
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - regularised_beta(1.0 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    return min(1.0, front * _continued_fraction(x, a, b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Lentz's evaluation of the continued fraction of I_x(a, b), for x below the mean of Beta(a, b)."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _bisect(rises_above: Callable[[float], bool]) -> float:
    """The point in [0, 1] where a condition that holds from some point on begins to hold."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rises_above(middle) else (middle, high)
    return (low + high) / 2


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval for a proportion after `hits` of `n`; (0, 1) where n is 0.

    Covers the true proportion with at least `confidence`, for every n and every proportion. Raises ValueError where
    hits are not among 0..n or the confidence is not inside (0, 1).
    """
    if not 0 <= hits <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"expected 0 ≤ hits ≤ n and 0 < confidence < 1, found {hits}, {n}, {confidence}")
    tail = (1.0 - confidence) / 2
    low, high = 0.0, 1.0
    if hits > 0:
        low = _bisect(lambda p: regularised_beta(p, hits, n - hits + 1) >= tail)
    if hits < n:
        high = _bisect(lambda p: regularised_beta(p, hits + 1, n - hits) >= 1.0 - tail)
    return low, high


def log_evidence_against(rate: float, hits: int, n: int) -> float:
    """Logarithm of the mixture martingale that bets against a true proportion `rate`, after `hits` of `n`.

    M = B(½ + hits, ½ + n − hits) / B(½, ½) / (rate^hits (1 − rate)^(n − hits)) has expectation 1 under `rate` at every
    n, so that it ever exceeds 1/α with probability at most α (Ville). The mixture is Jeffreys' Beta(½, ½).
    """
    if (rate <= 0.0 and hits) or (rate >= 1.0 and hits < n):
        return math.inf
    likelihood = (hits * math.log(rate) if hits else 0.0) + ((n - hits) * math.log1p(-rate) if hits < n else 0.0)
    return _log_beta(_PRIOR + hits, _PRIOR + n - hits) - _log_beta(_PRIOR, _PRIOR) - likelihood


Decision = Literal["pass", "fail"]


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to stop drawing samples: the question is whether the mismatch rate is at most `limit`.

    `planned` is the number of samples at which the question ends anyway; it is then answered by the observed fraction.
    Before that it is decided (a) for certain, once the samples left cannot change the answer (curtailed sampling), or
    (b) with error probability at most 1 − confidence over *all* looks together, once the limit lies outside the
    confidence sequence.
    """

    limit: float = 0.0
    confidence: float = 0.95
    planned: int = 100

    def decide(self, mismatches: int, n: int) -> Decision | None:
        """Pass, fail, or None while it is open, after `mismatches` of `n` samples."""
        left = max(0, self.planned - n)
        if mismatches > self.limit * (n + left) + 1e-9:
            return "fail"
        if n > 0 and mismatches + left <= self.limit * (n + left) + 1e-9:
            return "pass"
        if n > 0 and log_evidence_against(self.limit, mismatches, n) >= -math.log(1.0 - self.confidence):
            return "fail" if mismatches > self.limit * n else "pass"
        return None
