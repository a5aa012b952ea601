"""Inputs that a random sample rarely is: constant, impulse, negative, saturated, with ties, of odd or greater size.

Everything starts from real samples and is pure: values go to what was asked for, integers stay integers, and inputs
that only steer (masks, lengths, positions) are left as a real sample has them. Whether values stay within what was
observed is told by `Space.holds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.ir import Array

Feeds = Mapping[str, Array]
_STEERING = ("mask", "len", "position", "pos_ids", "type", "segment")
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Space:
    """The observed range of the inputs: name → smallest and largest finite value. steering: left as they are."""

    low: Mapping[str, float]
    high: Mapping[str, float]
    steering: frozenset[str] = frozenset()

    @classmethod
    def of(cls, samples: Feeds) -> Space:
        """The range of samples (N, *item)."""
        low, high = dict[str, float](), dict[str, float]()
        for name, value in samples.items():
            low[name], high[name] = _ends(value)
        odd = (n for n, v in samples.items() if v.dtype.kind not in "fiu" or any(w in n.lower() for w in _STEERING))
        return cls(low, high, frozenset(odd))

    @property
    def free(self) -> list[str]:
        """The inputs that may be changed."""
        return [n for n in self.low if n not in self.steering and self.low[n] < self.high[n]]

    def holds(self, item: Feeds) -> bool:
        """Whether all values lie in the range."""
        return all(self._inside(n, np.asarray(item[n])) for n in self.low if n not in self.steering)

    def _inside(self, name: str, value: Array) -> bool:
        low, high = self.low[name], self.high[name]
        slack = _SLACK * max(abs(low), abs(high))
        return bool(value.size == 0 or (value.min() >= low - slack and value.max() <= high + slack))

    def clipped(self, name: str, value: Array, dtype: np.dtype[np.generic]) -> Array:
        """A value moved into the range, in the dtype of an input (integers rounded)."""
        value = np.clip(value, self.low[name], self.high[name])
        return (np.rint(value) if dtype.kind in "iu" else value).astype(dtype)


def _ends(value: Array) -> tuple[float, float]:
    """The smallest and the largest finite value; zeros where there is none."""
    if not value.size:
        return 0.0, 0.0
    ends = float(value.min()), float(value.max())
    if np.isfinite(ends).all():
        return ends
    finite = value[np.isfinite(value)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """One input to try: `feeds` without an axis of samples, `what` it is in words, whether it is in the range."""

    feeds: dict[str, Array]
    what: str
    inside: bool


Make = Callable[[Array, float, float], Array]


def _impulse(x: Array, low: float, high: float) -> Array:
    made = np.full(x.shape, min(max(0.0, low), high))
    made[tuple(slice(0, 1) for _ in x.shape)] = low
    made[tuple(slice(n // 2, n // 2 + 1) for n in x.shape)] = high
    return made


def _amplified(x: Array, low: float, high: float) -> Array:
    """As large as the range allows."""
    factors = [b / e for b, e in ((high, x.max()), (low, x.min())) if e * b > 0]
    return x * max(1.0, min(factors, default=1.0))


def _stretched(x: Array, low: float, high: float) -> Array:
    span = float(x.max() - x.min())
    return low + (x - x.min()) * ((high - low) / span) if span > 0 else np.full(x.shape, high)


def _checkered(x: Array, low: float, high: float) -> Array:
    parity = sum(np.ogrid[tuple(slice(0, n) for n in x.shape)]) % 2 if x.ndim else np.zeros(())
    return np.where(np.broadcast_to(parity, x.shape) == 0, high, low)


def _negative(x: Array, low: float, high: float) -> Array:
    """All values below zero, or in the lower half of a range that has no negative values."""
    return np.maximum(-np.abs(x), low) if low < 0 else low + (x - low) / 2


def _ties(x: Array, low: float, high: float) -> Array:
    """A few distinct values only, whole numbers where the range holds several."""
    step = max(1.0, np.rint((high - low) / 8)) if high - low >= 4 else (high - low) / 4
    return np.rint((x - low) / step) * step + (np.rint(low) if high - low >= 4 else low)


def _saturated(x: Array, low: float, high: float) -> Array:
    """The larger half of the values as large as can be, the others as small."""
    middle = (x.size - 1) // 2
    return np.where(x > np.partition(x, middle, None)[middle], high, low) if x.size else x


KINDS: tuple[tuple[str, Make], ...] = (
    ("as large as the range allows", _amplified),
    ("negative values only", _negative),
    ("saturated", _saturated),
    ("few distinct values (ties)", _ties),
    ("constant, the largest value", lambda x, low, high: np.full(x.shape, high)),
    ("impulse", _impulse),
    ("stretched over the range", _stretched),
    ("constant, the smallest value", lambda x, low, high: np.full(x.shape, low)),
    ("gray", lambda x, low, high: np.full(x.shape, (low + high) / 2)),
    ("checkered", _checkered),
    ("mirrored about the middle of the range", lambda x, low, high: low + high - x),
)  # fmt: skip
OUTSIDE: tuple[tuple[str, float], ...] = (("four times as large", 4.0), ("of the other sign", -1.0))


def probes(samples: Feeds, space: Space, most: int) -> list[Probe]:
    """Up to `most` probes made of samples (N, *item); each kind once before any comes again with another sample."""
    count = len(next(iter(samples.values()), ()))
    found: list[Probe] = []
    for turn in range(count):
        for number, (what, make) in enumerate((*KINDS, *((w, _times(f)) for w, f in OUTSIDE))):
            if len(found) >= most or not space.free:
                return found
            base = {n: v[(turn + number) % count] for n, v in samples.items()}
            beyond = number >= len(KINDS)
            item = {n: _made(make, base[n], n, space, beyond) for n in base}
            if any(not np.array_equal(item[n], base[n]) for n in item):
                found.append(Probe(item, what, space.holds(item)))
    return found


def _times(factor: float) -> Make:
    return lambda x, low, high: factor * x


def _made(make: Make, value: Array, name: str, space: Space, beyond: bool) -> Array:
    """One input of a probe; `beyond` the range only where that is asked for, and never for integers (identifiers)."""
    if name not in space.free:
        return value
    made = make(np.asarray(value, np.float64), space.low[name], space.high[name])
    if beyond and value.dtype.kind == "f":
        return made.astype(value.dtype)
    return space.clipped(name, made, value.dtype)


def sizes(size: int) -> tuple[int, ...]:
    """Other sizes to try for a dimension: of the other parity, and much longer."""
    return tuple(dict.fromkeys((size + 1, 2 * size + 1 if size > 4 else 9)))


def resized(samples: Feeds, axes: Mapping[str, Sequence[int]], grown: int) -> dict[str, Array]:
    """Samples (N, *item) whose item axes `axes` (by input name) are longer by `grown`.

    What is missing comes from the samples that follow; positions count on.
    """
    made = {}
    for name, value in samples.items():
        for axis in axes.get(name, ()):
            value = _grown(value, axis + 1, value.shape[axis + 1] + grown, "pos" in name.lower())
        made[name] = value
    return made


def _grown(value: Array, axis: int, size: int, counts: bool) -> Array:
    old = value.shape[axis]
    if counts and value.dtype.kind in "iu":
        shape = [1] * value.ndim
        shape[axis] = size
        wide = (*value.shape[:axis], size, *value.shape[axis + 1:])
        return np.broadcast_to(np.arange(size, dtype=value.dtype).reshape(shape), wide).copy()
    parts = [np.roll(value, -k, axis=0) for k in range(-(-size // old))]
    return np.take(np.concatenate(parts, axis), range(size), axis)
