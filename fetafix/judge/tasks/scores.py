"""The best class along an axis, in two models at once, with the ties that noise may turn over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array

Classes = NDArray[np.int64]


def best(source: Array, target: Array, axis: int, tie: float) -> tuple[Classes, Classes]:
    """The arg max of two score arrays of equal shape along `axis`.

    Where each model's choice ties with the other's (within `tie`) the target's counts as the source's, as for labels
    (`fetafix.judge.labels`). NaN is never the best, unless there is nothing else.
    """
    s, t = (np.where(np.isnan(a), -np.inf, a) if a.dtype.kind == "f" else a for a in (source, target))
    of_s, of_t = s.argmax(axis), t.argmax(axis)
    where = np.nonzero(of_s != of_t)
    if where[0].size:
        rows_s, rows_t = np.moveaxis(s, axis, -1)[where], np.moveaxis(t, axis, -1)[where]
        i = np.arange(len(rows_s))
        tied = (rows_s[i, of_t[where]] >= rows_s[i, of_s[where]] - tie) & (
            rows_t[i, of_s[where]] >= rows_t[i, of_t[where]] - tie)
        of_t = of_t.copy()
        of_t[tuple(w[tied] for w in where)] = of_s[tuple(w[tied] for w in where)]
    return of_s, of_t


def halves(source: Array, target: Array, threshold: float, tie: float) -> tuple[Classes, Classes]:
    """0 below and 1 above a threshold, in both models; where both values tie with it the target's is the source's."""
    of_s, of_t = (source > threshold).astype(np.int64), (target > threshold).astype(np.int64)
    tied = (np.abs(source - threshold) <= tie) & (np.abs(target - threshold) <= tie)
    return of_s, np.where(tied, of_s, of_t)


def sums_to_one(values: Array, axis: int) -> bool:
    """Whether non-negative values sum to 1 along an axis of at least 2, as a softmax's do."""
    if values.dtype.kind != "f" or values.shape[axis] < 2 or not values.size:
        return False
    numbers = np.asarray(values, np.float64)
    return bool((numbers >= -1e-6).all() and np.allclose(numbers.sum(axis), 1.0, atol=1e-2))


def within_unit(values: Array) -> bool:
    """Whether all values lie in [0, 1], and not all on one spot."""
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    return bool(finite.size and finite.min() >= -1e-6 and finite.max() <= 1.0 + 1e-6 and np.ptp(finite) > 0.0)
