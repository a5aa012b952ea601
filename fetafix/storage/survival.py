"""Trials that survive or fail: how sure a rate is, however often one looks.

A fixed-size interval that is looked at after every trial is wrong more often than it says. A confidence sequence is
not: its bounds hold at all times at once, so that one may stop as soon as they decide. Here that of a mixture (Robbins,
"Statistical Methods Related to the Law of the Iterated Logarithm", 1970): with k successes of n,

    M(p) = (½ B(k + ½, n − k + ½) / B(½, ½) + ½ [k = n]) / (p^k (1 − p)^(n−k))

is a martingale under the true rate p, and exceeds 1/α at any time with a probability of at most α (Ville). The bounds
are the p at which it equals 1/α. Half the weight lies on a rate of 1, for a good protection never fails: 72 survivals
without a failure show 95%, where the fixed size of 59 may be looked at only once.
"""

from __future__ import annotations

import math
from typing import Literal


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_ratio(successes: int, trials: int, rate: float) -> float:
    """The logarithm of M(rate)."""
    failures = trials - successes
    against = 0.0
    if successes:
        against += successes * math.log(rate) if rate > 0 else -math.inf
    if failures:
        against += failures * math.log1p(-rate) if rate < 1 else -math.inf
    mixed = _log_beta(successes + 0.5, failures + 0.5) - _log_beta(0.5, 0.5)
    return (mixed if failures else max(mixed, 0.0) + math.log1p(math.exp(-abs(mixed)))) - math.log(2.0) - against


def bounds(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Between what the rate lies, at any time at once, with this confidence."""
    if not trials:
        return 0.0, 1.0
    limit, best = math.log(1.0 / (1.0 - confidence)), successes / trials
    return _edge(successes, trials, 0.0, best, limit), _edge(successes, trials, 1.0, best, limit)


def _edge(successes: int, trials: int, outside: float, inside: float, limit: float) -> float:
    """Where log M crosses the limit between a rate outside and the best one; the outer one where it never does."""
    if _log_ratio(successes, trials, outside) <= limit:
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        if _log_ratio(successes, trials, middle) > limit:
            outside = middle
        else:
            inside = middle
    return outside


def decided(successes: int, trials: int, wanted: float, confidence: float = 0.95) -> Literal["yes", "no", ""]:
    """Whether the rate is known to be at least, or to be below, what is wanted; "" while it is not."""
    low, high = bounds(successes, trials, confidence)
    return "yes" if low >= wanted else "no" if high < wanted else ""


def trials_needed(wanted: float, confidence: float = 0.95) -> int:
    """The fewest trials, all of them successes, that show a rate of at least `wanted`."""
    trials = 1
    while decided(trials, trials, wanted, confidence) != "yes":
        trials += 1
    return trials
