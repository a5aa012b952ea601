"""Numbers of agreement as sums: measure a chunk, add the sums of all chunks, read the figures off the total.

Nothing here applies a softmax: ranks and errors are taken on what the models put out, probabilities or logits.
Positions where either value is not finite take no part in the error figures; they are counted, and positions where the
two models disagree about being NaN, +inf or −inf are counted apart. All sums are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fetafix.ir import Array

_BLOCK = 1 << 22  # elements that are held as float64 at a time


@dataclass(frozen=True, slots=True)
class Errors:
    """Sums over the elements of one output, `source` s against `target` t of equal shape. `a + b` joins two chunks.

    Relative error of an element is |t − s| / max(|s|, |t|), between 0 and 2, and 0 where both are 0: it needs no scale
    and does not explode near zero. n counts all elements, compared those finite in both.
    """

    n: int = 0
    compared: int = 0
    sum_abs: float = 0.0
    max_abs: float = 0.0
    sum_rel: float = 0.0
    max_rel: float = 0.0
    square_error: float = 0.0
    square_source: float = 0.0
    square_target: float = 0.0
    product: float = 0.0
    scale: float = 0.0
    nonfinite_source: int = 0
    nonfinite_target: int = 0
    nonfinite_differs: int = 0

    def __add__(self, other: Errors) -> Errors:
        joined = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        for name in ("max_abs", "max_rel", "scale"):
            joined[name] = max(getattr(self, name), getattr(other, name))
        return Errors(**joined)

    @property
    def mean_abs(self) -> float | None:
        """Mean |t − s|, None without finite elements."""
        return self.sum_abs / self.compared if self.compared else None

    @property
    def mean_rel(self) -> float | None:
        """Mean relative error, None without finite elements."""
        return self.sum_rel / self.compared if self.compared else None

    @property
    def rel_l2(self) -> float | None:
        """‖t − s‖₂ / ‖s‖₂; where s is all zero, ‖t − s‖₂ / ‖t‖₂, that is 0 or 1."""
        if not self.compared:
            return None
        return _ratio(self.square_error, self.square_source or self.square_target)

    @property
    def rms(self) -> float:
        """√(Σs² / n), the size of the source's values; 0 without finite elements."""
        return math.sqrt(self.square_source / self.compared) if self.compared else 0.0

    @property
    def cosine(self) -> float | None:
        """⟨s, t⟩ / (‖s‖ ‖t‖); 1 where both are all zero, 0 where one is."""
        if not self.compared:
            return None
        if self.square_source == 0.0 or self.square_target == 0.0:
            return 1.0 if self.square_source == self.square_target else 0.0
        return max(-1.0, min(1.0, self.product / math.sqrt(self.square_source) / math.sqrt(self.square_target)))

    @property
    def sqnr_db(self) -> float | None:
        """10 log₁₀(‖s‖² / ‖t − s‖²) in decibel; None where the error is exactly 0 (infinite) or s is."""
        if self.square_error == 0.0 or self.square_source == 0.0:
            return None
        return 10.0 * (math.log10(self.square_source) - math.log10(self.square_error))


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0.0:
        return 0.0 if numerator == 0.0 else math.inf
    return math.sqrt(numerator / denominator)


def errors(source: Array, target: Array) -> Errors:
    """The sums for two arrays of equal shape, any dtype; strings and other objects count 1 where they differ.

    Raises ValueError where the shapes differ.
    """
    if source.shape != target.shape:
        raise ValueError(f"expected arrays of one shape, found {source.shape} and {target.shape}")
    if source.size > _BLOCK and len(source) > 1:
        half = len(source) // 2
        return errors(source[:half], target[:half]) + errors(source[half:], target[half:])
    s, t = _numbers(source, target)
    finite_s, finite_t = np.isfinite(s), np.isfinite(t)
    both = finite_s & finite_t
    differs = 0
    if not both.all():
        differs = int(np.count_nonzero(~both & ~((s == t) | (np.isnan(s) & np.isnan(t)))))
        nonfinite = int(s.size - finite_s.sum()), int(t.size - finite_t.sum())
        s, t = s[both], t[both]
    else:
        nonfinite = 0, 0
    return _sums(s.ravel(), t.ravel(), finite_s.size, nonfinite, differs)


def _sums(s: Array, t: Array, n: int, nonfinite: tuple[int, int], differs: int) -> Errors:
    if s.size == 0:
        return Errors(n=n, nonfinite_source=nonfinite[0], nonfinite_target=nonfinite[1], nonfinite_differs=differs)
    with np.errstate(over="ignore"):  # |t − s| of two huge float64 may overflow to inf, which is then the honest figure
        diff = np.abs(t - s)
        largest = np.maximum(np.abs(s), np.abs(t))
        relative = np.divide(diff, largest, out=np.zeros_like(diff), where=largest > 0)
        return Errors(
            n=n, compared=s.size, sum_abs=float(diff.sum()), max_abs=float(diff.max()),
            sum_rel=float(relative.sum()), max_rel=float(relative.max()), square_error=_dot(diff, diff),
            square_source=_dot(s, s), square_target=_dot(t, t), product=_dot(s, t),
            scale=float(np.abs(s).max()),
            nonfinite_source=nonfinite[0], nonfinite_target=nonfinite[1], nonfinite_differs=differs,
        )


def _dot(a: Array, b: Array) -> float:
    """Σ ab, summed pairwise; not by BLAS, whose threads would take the processors from the models that are running."""
    return float(np.multiply(a, b).sum())


def _numbers(source: Array, target: Array) -> tuple[Array, Array]:
    """Both as float64: bool as 0 and 1, complex as pairs, strings as 0 against 0 or 1."""
    if source.dtype.kind in "OSU" or target.dtype.kind in "OSU":
        return np.zeros(source.shape), np.asarray(source != target, np.float64)
    if source.dtype.kind == "c" or target.dtype.kind == "c":
        pair = (np.ascontiguousarray(a, np.complex128)[..., None].view(np.float64) for a in (source, target))
        return next(pair), next(pair)
    return np.asarray(source, np.float64), np.asarray(target, np.float64)
