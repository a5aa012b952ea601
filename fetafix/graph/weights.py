"""Weights compared without regard to order: fingerprints of values, and the reordering between two tensors.

Converters permute weights on purpose (Keras keeps HWIO, ONNX OIHW) and by mistake. Two tensors with equal sorted values
hold the same numbers in another order; `permutation` then names the order and can undo it. All of it is tolerant to
float noise, so a tensor that went through a fold and back is still recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from fetafix.ir import Array

NOISE = 1e-5
_PROBES = 256
_MAX_RANK = 5


def doubles(value: Array) -> Array:
    """A tensor as float64; damaged bytes may be signalling NaNs, which convert without a warning."""
    with np.errstate(invalid="ignore"):
        return np.asarray(value, np.float64)


def close(a: Array, b: Array, noise: float = NOISE) -> bool:
    """Whether two tensors of one shape are equal up to `noise` relative to the second's largest magnitude."""
    return a.shape == b.shape and deviation(a, b) <= noise


def deviation(a: Array, b: Array) -> float:
    """Largest |a − b| over largest |b| of two tensors of one shape, float64; inf where only one is finite."""
    if a.dtype == b.dtype and np.array_equal(a, b):
        return 0.0
    x, y = doubles(a), doubles(b)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0 if np.array_equal(x, y, equal_nan=True) else float("inf")
    largest, off = float(np.max(np.abs(y), initial=0.0)), float(np.max(np.abs(x - y), initial=0.0))
    return off / largest if largest > 0 else (0.0 if off == 0 else float("inf"))


def moments(value: Array) -> Array:
    """Size, sum, sum of magnitudes, sum of squares and extremes: a quick order-blind fingerprint, float64 (6,)."""
    x = doubles(value).ravel()
    if x.size == 0:
        return np.zeros(6)
    return np.array([x.size, x.sum(), np.abs(x).sum(), np.square(x).sum(), x.min(), x.max()])


def fingerprint(value: Array) -> Array:
    """The sorted values, float64: equal for every reordering of a tensor."""
    return np.sort(doubles(value).ravel())


def alike(a: Array, b: Array, noise: float = NOISE) -> bool:
    """Whether two tensors hold the same values in any order and shape."""
    return a.size == b.size and close(fingerprint(a), fingerprint(b), noise)


@dataclass(frozen=True, eq=False, slots=True)
class Reorder:
    """How the elements of a tensor were moved: `order` makes the moved tensor of the reference.

    kind: "axes" (transposed), "layout" (bytes written in one axis order and read in another), "flip", "blocks" (an
    axis split into a × b and read as b × a), "roll", "rows" (whole slices of an axis moved). detail: the parameters in
    words. axes: those that are flipped.
    """

    kind: str
    detail: str
    order: Callable[[Array], Array]
    axes: tuple[int, ...] = ()

    def undo(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The reference's order (of the given shape) made of a moved tensor."""
        places = self.order(np.arange(value.size).reshape(shape))
        restored = np.empty(value.size, value.dtype)
        restored[places.ravel()] = value.ravel()
        return restored.reshape(shape)


def permutation(value: Array, reference: Array, noise: float = NOISE) -> Reorder | None:
    """The reordering that makes `value` of `reference`; None where they are equal, or no known one does.

    Simple explanations come first: flips, axis permutations, layouts, blocks, rolls, rows.
    """
    if value.size != reference.size or value.size < 2 or not alike(value, reference, noise):
        return None
    if close(value, reference, noise):
        return None
    return next((r for r in _candidates(value, reference) if _explains(r, value, reference, noise)), None)


def _explains(reorder: Reorder, value: Array, reference: Array, noise: float) -> bool:
    moved = reorder.order(reference)
    if moved.shape != value.shape:
        return False
    places = np.unravel_index(np.linspace(0, value.size - 1, min(_PROBES, value.size)).astype(np.int64), value.shape)
    largest = float(np.max(np.abs(reference)))
    if np.max(np.abs(np.asarray(moved[places], np.float64) - value[places])) > noise * largest:
        return False
    return close(value, moved, noise)


def _candidates(value: Array, reference: Array) -> Iterator[Reorder]:
    axes, shape = tuple(range(reference.ndim)), value.shape
    if shape == reference.shape:
        yield from _flips(axes)
    if reference.ndim <= _MAX_RANK:
        yield from _axis_orders(shape, reference.shape)
    if shape == reference.shape:
        yield from _blocks(reference.shape)
        yield from _rows(value, reference)


def _flips(axes: tuple[int, ...]) -> Iterator[Reorder]:
    """Flips of the spatial axes first, then of any subset."""
    subsets = [axes[2:], *(s for n in range(1, len(axes) + 1) for s in combinations(axes, n))]
    for subset in subsets:
        if subset:
            yield Reorder("flip", f"axes {list(subset)}", lambda r, s=subset: np.flip(r, s), subset)  # type: ignore[misc]


def _axis_orders(shape: tuple[int, ...], reference: tuple[int, ...]) -> Iterator[Reorder]:
    """Transpositions that keep the shape; then bytes written in one axis order and read as another, both ways."""
    identity = tuple(range(len(reference)))
    perms = [p for p in permutations(identity) if p != identity]
    for p in perms:
        if tuple(reference[i] for i in p) == shape:
            yield Reorder("axes", f"transpose {list(p)}", lambda r, p=p: r.transpose(p))  # type: ignore[misc]
    for p in perms:
        yield Reorder("layout", f"written as {list(p)}", lambda r, p=p: r.transpose(p).reshape(shape))  # type: ignore[misc]
    for p in perms:
        dims, back = tuple(reference[i] for i in p), tuple(int(i) for i in np.argsort(p))
        if tuple(dims[i] for i in back) == shape:
            yield Reorder("layout", f"read as {list(p)}",
                          lambda r, d=dims, b=back: r.reshape(d).transpose(b))  # type: ignore[misc]


def _blocks(shape: tuple[int, ...]) -> Iterator[Reorder]:
    for axis, dim in enumerate(shape[:2]):
        for a in (a for a in range(2, dim) if dim % a == 0):
            yield Reorder("blocks", f"axis {axis} as {a}×{dim // a}",
                          lambda r, x=axis, a=a: blocks(r, x, a))  # type: ignore[misc]


def blocks(value: Array, axis: int, a: int) -> Array:
    """An axis of a·b elements, read as (a, b), written as (b, a)."""
    shape = value.shape
    split = value.reshape(*shape[:axis], a, shape[axis] // a, *shape[axis + 1:])
    return np.swapaxes(split, axis, axis + 1).reshape(shape)


def _rows(value: Array, reference: Array) -> Iterator[Reorder]:
    """Whole slices of axis 0 or 1 in another order, matched by a random projection of each."""
    rng = np.random.default_rng(0)
    for axis in range(min(reference.ndim, 2)):
        flat = [np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1) for v in (value, reference)]
        ours, theirs = (f.astype(np.float64) for f in flat)
        direction = rng.standard_normal(ours.shape[1])
        take = np.empty(len(ours), np.int64)
        take[np.argsort(ours @ direction, kind="stable")] = np.argsort(theirs @ direction, kind="stable")
        shifts = np.unique((np.arange(len(take)) - take) % len(take))
        kind = "roll" if len(shifts) == 1 else "rows"
        detail = f"axis {axis} by {shifts[0]}" if kind == "roll" else f"slices of axis {axis}"
        yield Reorder(kind, detail, lambda r, t=take, x=axis: np.take(r, t, x))  # type: ignore[misc]


def flatten_orders(size: int, shapes: Iterable[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Each way to flatten a map of `size` elements: (axis order, element order), the map's own order first.

    shapes: of candidate maps, without the batch; those of another size, or with one long axis only, give nothing.
    """
    for dims in sorted({s for s in shapes if int(np.prod(s)) == size and sum(d > 1 for d in s) > 1 and len(s) <= 4}):
        for perm in permutations(range(len(dims))):
            yield perm, np.arange(size).reshape(dims).transpose(perm).ravel()
