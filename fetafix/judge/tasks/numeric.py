"""Numbers as they are: the fallback, and what to ask for where an output's meaning is not to be guessed.

It notes nothing of its own: the sums over all elements (`fetafix.judge.metrics`) and the tolerance that the source's
noise gives (`fetafix.judge.noise`) decide, sample by sample by the largest difference and in all by every bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge.tasks.base import OUTPUT, Claim, Limits, Observed, Rows, View, alike, only


class Numeric:
    """Numbers within the tolerance. limits: max_abs, which the judge sets to the output's tolerance."""

    name = "numeric"
    needs = "any output"
    limits: Limits = {}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """What it is asked for."""
        return [only(v, "asked", "its numbers count") for v in views] if asked else []

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """The largest difference of each sample, infinite where one model only has a NaN or an infinity."""
        if not alike(source, target) or source[OUTPUT].dtype.kind in "OSUc":
            return None
        return Observed({"max_abs": largest(source[OUTPUT], target[OUTPUT])})

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """No difference beyond max_abs."""
        agreeing: NDArray[np.bool_] = seen.measures["max_abs"] <= limits.get("max_abs", math.inf)
        return agreeing

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """The tolerance grows with the largest value seen, so nothing is lost for good."""
        return np.zeros(seen.n, np.bool_)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """See `lost`."""
        return False

    def likeness(self, seen: Observed) -> float:
        """Numbers tell by themselves which of two repairs is nearer."""
        return 1.0

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """The largest difference."""
        return {"max_abs": float(seen.measures["max_abs"].max(initial=0.0))}

    def words(self, figures: Mapping[str, float]) -> str:
        """The largest difference."""
        return f"values differ by up to {figures['max_abs']:.2g}"

    def answer(self, seen: Observed, i: int) -> str:
        """How far it is off."""
        return f"differs by {seen.measures['max_abs'][i]:.3g}"


def largest(source: Array, target: Array) -> NDArray[np.float64]:
    """The largest |t − s| of each sample, float64[N]."""
    s, t = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (source, target))
    made: NDArray[np.float64] = distance(s, t).max(1, initial=0.0)
    return made


def distance(source: Array, target: Array) -> Array:
    """|t − s| of float64 arrays; 0 for equal infinities and for NaN in both, infinite for NaN in one only."""
    same = (source == target) | (np.isnan(source) & np.isnan(target))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.where(same, 0.0, np.abs(target - source))
    return np.where(np.isnan(off), np.inf, off)
