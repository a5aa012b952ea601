"""A few quantities a sample: how far they are off, in spreads of the source's values over the samples.

    error of a sample   max over the quantities of |t − s| / σ        σ: standard deviation of s over the samples
    R²                  1 − Σ (t − s)² / Σ (s − mean s)²              of each quantity, the least counts

(R²: the coefficient of determination, S. Wright, Journal of Agricultural Research 20 (1921) 557-585, with the source
in the place of what is observed.) A quantity that hardly varies in the source has no spread to speak of; a thousandth
of its size serves instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge.heads import head
from fetafix.judge.tasks import scores
from fetafix.judge.tasks.base import OUTPUT, Claim, Limits, Observed, Rows, View, alike, figure, only, usable
from fetafix.judge.tasks.numeric import distance

_NAMES = re.compile(r"regress|landmark|keypoint|pose|angle|gaze|steer|coord|price|forecast")
_MOST, _LEAST = 256, 4
_CLEARLY = 10.0


class Regression:
    """Quantities. limits: spreads, the largest error of a sample in spreads."""

    name = "regression"
    needs = "up to 256 real numbers a sample: (N,), (N, K)"
    limits: Limits = {"spreads": 0.05}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """Few real numbers that are named so; one number that is no probability, maybe."""
        fits = [v for v in usable(views) if v.values.dtype.kind == "f" and v.values[:1].size <= _MOST]
        return [c for v in fits
                if (c := only(v, "asked", "it has few numbers a sample") if asked else _recognised(v)) is not None]

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Keeps the values: the spread is known at the end."""
        if not alike(source, target):
            return None
        s, t = (np.asarray(v[OUTPUT], np.float64).reshape(len(v[OUTPUT]), -1) for v in (source, target))
        return Observed({"max_abs": distance(s, t).max(1, initial=0.0)}, {"source": s, "target": t})

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """No quantity is off by more than its share of a spread."""
        agreeing: NDArray[np.bool_] = errors(seen) <= limits["spreads"]
        return agreeing

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Ten times too far off: further samples will not widen the spread as much."""
        off: NDArray[np.bool_] = errors(seen) > _CLEARLY * limits["spreads"]
        return off if seen.n >= _LEAST else np.zeros(seen.n, np.bool_)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """Each further sample changes the spread."""
        return False

    def likeness(self, seen: Observed) -> float:
        """R², at least 0."""
        return max(0.0, r_squared(seen))

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """R² of the worst quantity, the largest error in spreads and as it is."""
        return {"r2": r_squared(seen), "spreads": float(errors(seen).max(initial=0.0)),
                "max_abs": float(seen.measures["max_abs"].max(initial=0.0))}

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures."""
        return (f"R² {figure(figures['r2'], 5)}, off by up to {figures['spreads']:.2g} standard deviations "
                f"({figures['max_abs']:.3g})")

    def answer(self, seen: Observed, i: int) -> str:
        """The quantity that is off most."""
        s, t = seen.kept["source"][i], seen.kept["target"][i]
        k = int((distance(s, t) / _spread(seen.kept["source"])).argmax())
        return f"source says {s[k]:.6g}, target {t[k]:.6g}" + (f" (number {k})" if len(s) > 1 else "")


def errors(seen: Observed) -> NDArray[np.float64]:
    """The error of each sample in spreads: float64[N], infinite where one model only says NaN."""
    s, t = seen.kept["source"], seen.kept["target"]
    with np.errstate(over="ignore"):
        made: NDArray[np.float64] = (distance(s, t) / _spread(s)).max(1, initial=0.0)
    return made


def r_squared(seen: Observed) -> float:
    """The least R² of any quantity that varies; 1 where none does and all are equal, else 0."""
    known = np.isfinite(seen.kept["source"]).all(1)
    s, t = seen.kept["source"][known], seen.kept["target"][known]
    if not len(s):
        return 1.0
    with np.errstate(over="ignore"):
        total, off = ((s - s.mean(0)) ** 2).sum(0), (distance(s, t) ** 2).sum(0)
    varies = (total > 0.0) & np.isfinite(total)
    if not varies.any():
        return 1.0 if not off.any() else 0.0
    return float((1.0 - off[varies] / total[varies]).min())


def _spread(source: Array) -> Array:
    """The standard deviation of every quantity, never below a thousandth of its size; of samples without NaN."""
    known = source[np.isfinite(source).all(1)]
    if not len(known):
        return np.full(source.shape[1], 1e-300)
    least = np.maximum(1e-3 * np.abs(known).max(0, initial=0.0), 1e-300)
    made: Array = np.maximum(known.std(0), least)
    return made


def _recognised(view: View) -> Claim | None:
    values = view.values
    if np.ptp(values) == 0.0 or head(view.name, values, view.alone, view.step).classifier != "no":
        return None
    if _NAMES.search(view.name.lower()):
        return only(view, "yes", f"it has few numbers a sample and is named {view.name!r}")
    if values[:1].size == 1 and not scores.within_unit(values):
        return only(view, "maybe", "it has one number a sample that is no probability")
    return None
