"""Which elements of a parameter are damaged, and whether flipped bits make of the source's what they are."""

from __future__ import annotations

import numpy as np

from fetafix.graph.bitflips import bits_of, flipped, one_each
from fetafix.graph.parameters import Parameter
from fetafix.graph.weights import NOISE, doubles
from fetafix.ir import Array
from fetafix.quantisation import Grid


def damaged(p: Parameter) -> Array:
    """Which elements are off, flat (bool)."""
    value, reference = doubles(np.asarray(p.value)).ravel(), doubles(p.reference).ravel()
    with np.errstate(invalid="ignore"):
        fine = np.abs(value - reference) <= _within(p).ravel()
    return np.asarray(~fine)


def _within(p: Parameter) -> Array:
    """How far off an element of a sound tensor may be."""
    noise = np.asarray(NOISE * float(np.max(np.abs(doubles(p.reference)), initial=0.0)))
    return np.broadcast_to(noise if p.step is None else noise + p.step, p.reference.shape)


def flips(p: Parameter, grid: Grid | None, off: Array) -> bool:
    """Whether the tensor differs from its reference as flipped bits make it: by its codes, where it has a grid."""
    value = np.asarray(p.value)
    if grid is not None:
        ours, theirs = grid.codes(value), grid.codes(p.reference)
        if p.step is None:
            return flipped(ours, theirs) > 0
        wanted, within = p.reference.ravel()[off], _within(p).ravel()[off]
        slices = np.broadcast_to(grid.along(grid.scale, value.ndim), value.shape).ravel()[off].astype(np.float64)
        zeros = np.broadcast_to(grid.along(grid.zero_point, value.ndim), value.shape).ravel()[off].astype(np.float64)
        return off.sum() > 2 and one_each(ours.ravel()[off], lambda c: (c - zeros) * slices, wanted, within, off.size)
    if value.dtype.kind != "f":
        return False
    if p.direct:
        return flipped(value, p.as_stored) > 0
    wanted = doubles(p.reference).ravel()[off]
    return one_each(value.ravel()[off], doubles, wanted, _within(p).ravel()[off], off.size)


def bits(p: Parameter, places: Array) -> int:
    """Most bits flipped in one of the elements at `places` (flat, bool); 99 where the reference is not exact."""
    if not p.direct or p.value is None or p.value.itemsize < 2:
        return 99
    ours, theirs = (bits_of(t.reshape(-1)[places]) for t in (p.value, p.as_stored))
    return max(int(x).bit_count() for x in ours ^ theirs)
