"""Which tensors carry the same values: layout-blind fingerprints, and the layout that relates two equal tensors.

A fingerprint is a vector of statistics that no permutation of the elements changes. Candidates of equal size and close
fingerprints are then compared element by element under every axis permutation that the shapes allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from fetafix.graph.segment import Layout, relative_error
from fetafix.ir import Array

_PROBES = 64
_MAX_RANK = 5


@dataclass(frozen=True, slots=True)
class Match:
    """A source tensor that equals a target tensor in a layout, up to relative L2 `error`."""

    source: str
    layout: Layout
    error: float


def fingerprint(value: Array) -> Array:
    """Seven order-blind statistics, float64: mean, mean |x|, rms, mean x·|x|, min, max, share of positives."""
    x = np.asarray(value).reshape(-1)
    if x.dtype.kind not in "f" or x.dtype.itemsize < 4:
        x = x.astype(np.float32)
    if x.size == 0:
        return np.zeros(7)
    magnitude = np.abs(x)
    with np.errstate(all="ignore"):  # infinities and NaN make a fingerprint that is near no other
        stats = [
            x.mean(),  # pairwise sums: float32 is precise enough to tell tensors apart, and several times as fast
            magnitude.mean(),
            np.sqrt(np.dot(x, x) / x.size),
            np.dot(x, magnitude) / x.size,
            x.min(),
            x.max(),
            np.count_nonzero(x > 0) / x.size,
        ]
    return np.asarray(stats, np.float64)


def distance(a: Array, b: Array, extremes: float = 1.0) -> float:
    """Largest difference of two fingerprints relative to the rms of the second; inf where one is not finite.

    extremes: the weight of minimum and maximum, which saturation moves.
    """
    scale = max(float(b[2]), 1e-30)
    with np.errstate(invalid="ignore", over="ignore"):
        diff = np.abs(a - b) / np.array([scale, scale, scale, scale * scale, scale, scale, 1.0])
    diff[4:6] *= extremes
    return float(diff.max()) if np.isfinite(diff).all() else float("inf")


def relate(source: Array, layout: Layout, shape: tuple[int, ...]) -> Array:
    """The source's values in the target's layout and shape (contiguous)."""
    moved = source if layout.perm is None else source.transpose(layout.perm)
    return np.ascontiguousarray(moved).reshape(shape)


@lru_cache(maxsize=4096)
def layouts(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[Layout, ...]:
    """The layouts by which a target tensor of one shape may hold a source tensor of another, likely ones first."""
    return tuple(_layouts(source, target))


def _layouts(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Layout]:
    if int(np.prod(source)) != int(np.prod(target)):
        return
    if source == target:
        yield Layout()
    else:
        yield Layout(None, reshaped=True)
    if len(source) > _MAX_RANK or max(source, default=1) == int(np.prod(source)):
        return
    identity = tuple(range(len(source)))
    for perm in sorted(permutations(identity), key=lambda p: (p[:1] != (0,), p)):
        moved = tuple(source[p] for p in perm)
        if perm != identity and not _same_order(source, perm):
            if moved == target:
                yield Layout(perm)
            elif _squeezed(moved) == _squeezed(target) or (perm[0] == 0 and _merged(moved, target)):
                yield Layout(perm, reshaped=True)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)


def _same_order(shape: tuple[int, ...], perm: tuple[int, ...]) -> bool:
    """Whether a permutation only moves axes of size 1, so that the values stay in order."""
    real = [p for p in perm if shape[p] != 1]
    return real == sorted(real)


def _merged(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `target` is `shape` with neighbouring axes merged, or the other way round."""
    small, large = sorted((_squeezed(shape), _squeezed(target)), key=len)
    i = 0
    for dim in small:
        product = 1
        while product < dim and i < len(large):
            product *= large[i]
            i += 1
        if product != dim:
            return False
    return i == len(large)


def compare(value: Array, source: Array, loose: float) -> Iterator[tuple[Layout, float]]:
    """Layouts under which `value` equals `source` up to relative L2 error `loose`, with the error."""
    value = np.asarray(value)
    if value.size == 0:
        return
    places = np.linspace(0, value.size - 1, min(_PROBES, value.size)).astype(np.int64)
    seen = value.reshape(-1)[places].astype(np.float64)
    flat = value.reshape(-1).astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # damaged weights make numbers that have no square
        scale = max(float(np.sqrt(np.mean(np.square(seen)))), 0.1 * float(np.sqrt(np.dot(flat, flat) / flat.size)),
                    1e-30)
    for layout in layouts(source.shape, value.shape):
        there = _probe(source, layout, value.shape, places).astype(np.float64)
        with np.errstate(all="ignore"):
            off = np.sqrt(np.mean(np.square(there - seen))) / scale
        if not np.isfinite(off) or off > 4 * loose + 1e-12:
            continue
        error = relative_error(value.astype(np.float32, copy=False), relate(source, layout, value.shape))
        if error <= loose:
            yield layout, error


def _probe(source: Array, layout: Layout, shape: tuple[int, ...], places: Array) -> Array:
    """The values that a layout puts at flat positions of the target, without moving the tensor."""
    perm = layout.perm or tuple(range(source.ndim))
    moved = tuple(source.shape[p] for p in perm)
    at = np.unravel_index(places, moved)
    back = [np.zeros(0, np.int64)] * source.ndim
    for axis, p in enumerate(perm):
        back[p] = at[axis]
    return np.asarray(source[tuple(back)]) if source.ndim else np.full(len(places), source)


class Index:
    """Fingerprints of the source's tensors, by element count."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[tuple[str, Array]]] = {}
        self.prints: dict[str, Array] = {}
        self.order: dict[str, int] = {}

    def add(self, name: str, value: Array) -> None:
        """Enter a tensor, in topological order."""
        self.order[name] = len(self.order)
        self.prints[name] = fingerprint(value)
        self._by_size.setdefault(value.size, []).append((name, self.prints[name]))

    def of_size(self, size: int) -> list[str]:
        """Names of the tensors with this many elements, in topological order."""
        return [n for n, _ in self._by_size.get(size, [])]

    def near(self, value: Array, loose: float, most: int = 6, extremes: float = 1.0) -> Iterable[str]:
        """Tensors whose fingerprint is within `loose` of the value's, nearest first; extremes: as `distance` has it."""
        known = self._by_size.get(value.size, [])
        if not known:
            return []
        own = fingerprint(value)
        ranked = sorted((distance(own, print_, extremes), i) for i, (_, print_) in enumerate(known))
        return [known[i][0] for d, i in ranked[:most] if d <= loose]
