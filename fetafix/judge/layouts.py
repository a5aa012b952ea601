"""How one tensor holds another's values: which axes are exchanged, judged by declared shapes and by the values.

A permutation `perm` reads like numpy's: target = source.transpose(perm). Axis 0 (the batch) stays where it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.ir import Array

Shape = Sequence[int | str | None]
_MAX_ELEMENTS = 2_000_000


def fits(source: Shape, target: Shape, perm: Sequence[int]) -> int | None:
    """How many dimensions certainly match once the source is permuted; None where two known sizes contradict.

    Axis 0 never contradicts: batch sizes may be baked in differently.
    """
    certain = 0
    for axis, (other, size) in enumerate(zip((source[p] for p in perm), target, strict=True)):
        if isinstance(other, int) and isinstance(size, int) and other > 0 and size > 0:
            if axis and other != size:
                return None
            certain += other == size
    return certain


def permutations(rank: int) -> Iterator[tuple[int, ...]]:
    """All permutations that keep axis 0, likeliest first: none, channels last, channels first, then the others."""
    if rank < 3 or rank > 5:
        yield tuple(range(rank))
        return
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    rest = ((0, *p) for p in itertools.permutations(range(1, rank)))
    yield from dict.fromkeys([tuple(range(rank)), last, first, *rest])


def layout_moves(rank: int) -> list[tuple[int, ...]]:
    """No permutation, channels moved last, channels moved first: all that a change of layout may do to an output.

    A model that exchanges height and width has not changed the layout, it is wrong.
    """
    return list(itertools.islice(permutations(rank), 3))


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def by_shape(source: Shape | None, target: Shape | None, any_axes: bool = True) -> tuple[int, ...] | None:
    """The likeliest permutation by declared shapes, the identity where one is unknown; None where none fits.

    any_axes: try all permutations that keep the batch; otherwise `layout_moves` only.
    """
    if source is None or target is None:
        return tuple(range(len(source or target or ())))
    if len(source) != len(target):
        return None
    tried = permutations(len(source)) if any_axes else layout_moves(len(source))
    scored = [(f, p) for p in tried if (f := fits(source, target, p)) is not None]
    return max(scored, key=lambda s: s[0])[1] if scored else None


def squeezed(shape: Shape) -> tuple[int | str | None, ...]:
    """The dimensions behind the batch that are not 1."""
    return tuple(d for d in shape[1:] if d != 1)


def similarity(source: Array, target: Array) -> float:
    """How much two arrays of equal size look alike: 1 − relative L2 distance of the values, at least 0; 0 for NaN.

    The distance is taken relative to the larger norm about the source's mean, so that a constant part does not make
    unlike things look alike, and a factor does count.
    """
    s, t = np.asarray(source, np.float64).ravel(), np.asarray(target, np.float64).ravel()
    finite = np.isfinite(s) & np.isfinite(t)
    if not finite.any():
        return 0.0
    s, t = s[finite], t[finite]
    mean = s.mean()
    spread = max(float(np.linalg.norm(s - mean)), float(np.linalg.norm(t - mean)))
    if spread <= 1e-12 * (abs(mean) + 1.0) * math.sqrt(s.size):
        return 1.0
    return max(0.0, 1.0 - float(np.linalg.norm(s - t)) / spread)


def by_content(source: Array, target: Array) -> tuple[float, tuple[int, ...] | None]:
    """(similarity, permutation or None for a mere reshape) of the layout in which the arrays look most alike.

    Returns (0, None) for arrays of different size. Only `layout_moves` that yield the target's shape are tried, and of
    rank 3 only those that the shapes demand; large arrays are judged by their first samples.
    """
    if source.shape[:1] != target.shape[:1] or source.size != target.size or source.dtype.kind in "OSU":
        return 0.0, None
    rows = max(1, _MAX_ELEMENTS // max(1, source[:1].size))
    source, target = source[:rows], target[:rows]
    tried: list[tuple[float, tuple[int, ...] | None]] = []
    if source.ndim == target.ndim:
        tried = [
            (similarity(source.transpose(p), target), p)
            for p in layout_moves(source.ndim)[: 1 if source.ndim == 3 and source.shape == target.shape else None]
            if tuple(source.shape[i] for i in p) == target.shape
        ]
    if not tried:
        tried = [(similarity(source, target), None)]
    return max(tried, key=lambda t: t[0])
