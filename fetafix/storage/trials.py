"""Trials of one model at one bit-error rate, counted: how sure its survival is, and when to stop.

That no bit flips at all has a known probability (1 − BER)^bits, here `floor`, and is survived. So trials without a flip
show nothing new, and those with one, each independent of the others, show the rest:

    P(survive) = floor + (1 − floor) · P(survive | some bit flips)

The latter is bounded by the confidence sequence of `survival` where one stops as soon as the question is decided, by
Clopper and Pearson's interval where the number of trials was fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fetafix.judge.statistics import clopper_pearson
from fetafix.storage import survival

Kind = Literal["sequence", "clopper-pearson", "certain"]
LEAST, MOST = 10, 200


@dataclass(frozen=True, slots=True)
class Rule:
    """When trials end. wanted: the probability to survive that is asked for. fixed: so many trials, neither more nor
    less; else at least `least`, until the question is decided, at most `most`.
    """

    wanted: float = 0.95
    confidence: float = 0.95
    fixed: int | None = None
    least: int = LEAST
    most: int = MOST

    def over(self, trials: int, survived: int, struck: int, floor: float) -> bool:
        """Whether to stop after so many trials, of which some bit flipped in `struck` and `survived` of those."""
        if self.fixed is not None:
            return trials >= self.fixed
        if trials < self.least:
            return False
        return trials >= self.most or self.decided(survived, struck, floor) != ""

    def kind(self, floor: float) -> Kind:
        """What the bounds rest on."""
        if floor >= self.wanted:
            return "certain"
        return "sequence" if self.fixed is None else "clopper-pearson"

    def bounds(self, survived: int, struck: int, floor: float) -> tuple[float, float]:
        """Between what the probability to survive lies, after `survived` of `struck` trials."""
        both = survival.bounds if self.fixed is None else clopper_pearson
        low, high = both(survived, struck, self.confidence)
        return floor + (1.0 - floor) * low, floor + (1.0 - floor) * high

    def estimate(self, survived: int, struck: int, floor: float) -> float:
        """The probability to survive, as far as trials show; 1 where none was struck."""
        return floor + (1.0 - floor) * (survived / struck if struck else 1.0)

    def decided(self, survived: int, struck: int, floor: float) -> Literal["yes", "no", ""]:
        """Whether the probability is known to be at least what is wanted, or to be below."""
        low, high = self.bounds(survived, struck, floor)
        return "yes" if low >= self.wanted else "no" if high < self.wanted else ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of accuracies: shares. p5: the smallest value that at least 5% of the trials do not exceed."""

    median: float
    p5: float
    worst: float
    mean: float


def spread(accuracies: Sequence[float]) -> Spread | None:
    """The figures; None without a trial."""
    if not accuracies:
        return None
    values = np.sort(np.asarray(accuracies, np.float64))
    fifth = values[max(0, int(np.ceil(0.05 * values.size)) - 1)]
    return Spread(float(np.median(values)), float(fifth), float(values[0]), float(values.mean()))


def tolerated(decisions: Sequence[tuple[float, str]]) -> float | None:
    """The highest of ascending rates up to which all are decided "yes"; None where the lowest is not.

    Testing in a fixed order and stopping at the first rate that is not shown keeps the confidence for all of them at
    once (Maurer, Hothorn and Lehmacher, 1995).
    """
    found = None
    for rate, decision in decisions:
        if decision != "yes":
            break
        found = rate
    return found


def mcnemar(first_only: int, second_only: int) -> float:
    """The exact two-sided p of McNemar's test: how probable so uneven a split of a fair coin is."""
    n, k = first_only + second_only, min(first_only, second_only)
    ways = total = 1
    for i in range(k):
        ways = ways * (n - i) // (i + 1)
        total += ways
    return min(1.0, float(2 * total / (1 << n)))
