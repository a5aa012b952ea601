"""Which samples to look at inside the models, where a difference shows on few of them.

A branch that one sample in ten takes, one photograph held upright: the first samples may agree to the last bit. What
differs on all samples alike is seen on the first ones, so they stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fetafix.ir import Array
from fetafix.judge.binding import Binding

_FAR = 10.0


class Outliers:
    """How far the outputs are apart, sample by sample, by position."""

    def __init__(self) -> None:
        self._apart: dict[int, float] = {}

    def note(
        self, positions: Sequence[int], outputs: Sequence[Binding], source: Mapping[str, Array],
        target: Mapping[str, Array],
    ) -> None:  # fmt: skip
        """Take down the relative L2 of each sample (axis 0), the largest of all outputs."""
        worst = np.zeros(len(positions))
        for b in outputs:
            s = source[b.source]
            t = b.to_source(target[b.target], s.shape)
            if s.shape == t.shape and s.dtype.kind in "fiu" and len(s) == len(positions):
                worst = np.maximum(worst, _apart(s, t))
        self._apart |= dict(zip(positions, worst.tolist(), strict=True))

    def first(self, positions: Sequence[int], limit: int) -> tuple[int, ...]:
        """The samples to look at: the first ones, unless others are much further apart; then half are those."""
        usual = tuple(positions[:limit])
        rest = sorted((p for p in positions if p not in usual and p in self._apart), key=lambda p: -self._apart[p])
        here = max((self._apart.get(p, 0.0) for p in usual), default=0.0)
        telling = [p for p in rest if self._apart[p] > _FAR * here][: max(1, limit // 2)]
        return (*telling, *usual[: limit - len(telling)])


def _apart(s: Array, t: Array) -> Array:
    """‖t − s‖ / ‖s‖ by sample; 0 where values are not finite in one of both."""
    a, b = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (s, t))
    with np.errstate(all="ignore"):
        off = np.linalg.norm(b - a, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-30)
    return np.where(np.isfinite(off), off, 0.0)
