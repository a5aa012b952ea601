"""Inputs beside the data: found by a search, fed to both models, compared as samples are.

The data tells how the target's inputs follow from the source's (`carry`): the same values in another layout or dtype,
or, where both prepare images differently, an affine map of each channel. Found inputs are carried over likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.judge.binding import Binding

_FEW = 8
_EXACT = 1e-5


@dataclass(frozen=True, eq=False, slots=True)
class Annex:
    """Some inputs of one shape. search, heldout: positions, disjoint; batch: samples a run, None for what suits.

    alike: they have the shape of the samples, and may stand beside them in a batch. sure: what they show is beyond
    noise; otherwise only a look inside tells.
    """

    source: SampleSet
    target: SampleSet
    search: tuple[int, ...]
    heldout: tuple[int, ...]
    names: tuple[str, ...]
    batch: int | None = None
    alike: bool = True
    sure: bool = True

    def positions(self, which: str) -> tuple[int, ...]:
        """Positions of the search set, the held-out set, or all."""
        every = tuple(range(len(self.names)))
        return {"search": self.search, "heldout": self.heldout}.get(which, every)


@dataclass(frozen=True, eq=False, slots=True)
class Carry:
    """How the target's inputs follow from the source's. maps: target input → (scale, offset), None for neither.

    dtypes: of the target's inputs; kept here, since asking the samples may read all of them from a file.
    """

    bindings: tuple[Binding, ...]
    maps: Mapping[str, tuple[Array, Array] | None]
    dtypes: Mapping[str, np.dtype[Any]]
    target: SampleSet
    stacked: Mapping[str, bool]

    def __call__(self, arrays: Mapping[str, Array], positions: Sequence[int] | None = None) -> SampleSet:
        """The target's sample set for the source's arrays (N, *item)."""
        made = {}
        for b in self.bindings:
            value = _moved(b, arrays[b.source], self.stacked[b.source])
            made[b.target] = _mapped(value, self.maps[b.target], self.dtypes[b.target])
        count = len(next(iter(made.values())))
        return SampleSet(made, self.target.batched, (-1,) * count, preprocess=self.target.preprocess,
                         assumed=self.target.assumed, images=self.target.images)


def carry(source: SampleSet, target: SampleSet, inputs: Sequence[Binding]) -> Carry | None:
    """How the target's samples follow from the source's; None where no map does it."""
    few = range(min(_FEW, len(source)))
    ours, theirs = source.take(few), target.take(few)
    maps: dict[str, tuple[Array, Array] | None] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for b in inputs:
        moved = _moved(b, np.asarray(ours.arrays[b.source]), ours.batched[b.source])
        found = np.asarray(theirs.arrays[b.target])
        if moved.shape != found.shape:
            return None
        dtypes[b.target] = found.dtype
        if np.array_equal(moved.astype(found.dtype), found):
            maps[b.target] = None
            continue
        fitted = _affine(np.asarray(moved, np.float64), np.asarray(found, np.float64))
        if fitted is None:
            return None
        maps[b.target] = fitted
    return Carry(tuple(inputs), maps, dtypes, target, source.batched)


def annexed(
    carried: Carry, source: SampleSet, arrays: Mapping[str, Array], names: Sequence[str], heldout: Sequence[int],
    batch: int | None = None, alike: bool = True, sure: bool = True,
) -> Annex:  # fmt: skip
    """An annex of the source's arrays (N, *item); heldout: positions that no repair is chosen on."""
    count = len(names)
    own = SampleSet(dict(arrays), source.batched, (-1,) * count, preprocess=source.preprocess, assumed=source.assumed,
                    images=source.images)
    held = tuple(heldout)
    search = tuple(i for i in range(count) if i not in held)
    return Annex(own, carried(arrays), search, held, tuple(names), batch, alike, sure)


def _moved(b: Binding, value: Array, stacked: bool) -> Array:
    return np.ascontiguousarray(b.to_target(value)) if stacked else value


def _mapped(value: Array, affine: tuple[Array, Array] | None, dtype: np.dtype[Any]) -> Array:
    if affine is not None:
        value = value * affine[0] + affine[1]
    if dtype.kind in "iu" and value.dtype.kind == "f":
        limits = np.iinfo(dtype)
        value = np.clip(np.rint(value), limits.min, limits.max)
    return value.astype(dtype)


def _affine(a: Array, b: Array) -> tuple[Array, Array] | None:
    """(scale, offset) with b = scale · a + offset, one for all or one a channel; None where none fits."""
    for axis in (None, *(x for x in (1, a.ndim - 1) if 1 <= x < a.ndim and a.shape[x] <= 4)):
        others = tuple(i for i in range(a.ndim) if i != axis)
        mean_a, mean_b = a.mean(others, keepdims=True), b.mean(others, keepdims=True)
        spread = ((a - mean_a) ** 2).sum(others, keepdims=True)
        scale = ((a - mean_a) * (b - mean_b)).sum(others, keepdims=True) / np.maximum(spread, 1e-30)
        offset = mean_b - scale * mean_a
        if float(np.abs(scale * a + offset - b).max(initial=0.0)) <= _EXACT * float(np.abs(b).max(initial=1e-30)):
            return scale, offset
    return None
