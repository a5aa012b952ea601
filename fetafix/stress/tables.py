"""Where the bits of a target lie, as tables: all flips of a trial are looked up at once, however many tensors it has.

    Bytes     parts that are struck as the file has them: bit → byte of a file
    Codes     parts that are stored in another form: bit → code → value as the protection reads it → bytes of a file

Both say which bytes change; who holds the file changes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fetafix.storage.holding import Held
from fetafix.storage.schemes import Stored, load

if TYPE_CHECKING:
    from fetafix.stress.medium import Part

Array = npt.NDArray[Any]


class Change(NamedTuple):
    """What becomes of bytes of a file. at: their offsets, distinct; new: uint8, to put there or, for masks, to XOR."""

    path: Path
    at: Array
    new: Array
    mask: bool


class Bytes:
    """Parts that are struck as the file has them; `starts` are the bits of the target at which they begin."""

    def __init__(self, parts: Sequence[Part], starts: Sequence[int]) -> None:
        rows = [(start + 8 * done, offset, part.path) for part, start in zip(parts, starts, strict=True)
                for done, (offset, _) in zip(_before(part.pieces), part.pieces, strict=True)]
        self._paths = list(dict.fromkeys(path for _, _, path in rows))
        self._edges = np.asarray([edge for edge, _, _ in rows], np.int64)
        self._offsets = np.asarray([offset for _, offset, _ in rows], np.int64)
        self._files = np.asarray([self._paths.index(path) for _, _, path in rows], np.int64)

    def changes(self, where: Array) -> Iterator[Change]:
        """What flips at these bits of the target do: sorted, distinct, all of these parts."""
        piece = np.searchsorted(self._edges, where, "right") - 1
        local = where - self._edges[piece]
        at, file = self._offsets[piece] + (local >> 3), self._files[piece]
        first = _firsts(at, piece)
        masks = np.bitwise_xor.reduceat(np.left_shift(1, local & 7).astype(np.uint8), first)
        at, file = at[first], file[first]
        for i, path in enumerate(self._paths):
            chosen = slice(None) if len(self._paths) == 1 else file == i
            yield Change(path, at[chosen], masks[chosen], True)


class Codes:
    """Parts whose values are stored by one plan, along their own axes of channels."""

    def __init__(self, parts: Sequence[Part], starts: Sequence[int]) -> None:
        kept = [p.kept for p in parts if p.kept is not None]
        self._kept = kept
        self._bits = kept[0].plan.encoding.bits
        self._starts = np.asarray(starts, np.int64)
        self._sizes = np.concatenate([[0], np.cumsum([k.codes.size for k in kept])]).astype(np.int64)
        self._codes = np.concatenate([k.codes.reshape(-1) for k in kept])
        axes = [_channels(k) for k in kept]
        self._inner, self._count = (np.asarray(column, np.int64) for column in zip(*axes, strict=True))
        self._first = np.concatenate([[0], np.cumsum(self._count)[:-1]]).astype(np.int64)
        self._factors = np.concatenate([np.reshape(k.factors, -1) for k in kept])
        self._tensors = np.asarray([p.tensor for p in parts], object)
        self._offsets = np.asarray([p.pieces[0][0] for p in parts], np.int64)
        kinds = [(p.path, p.tensor.dtype.name) if p.tensor and _plain(p.tensor) else i for i, p in enumerate(parts)]
        numbers = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
        self._kinds = np.asarray([numbers[kind] for kind in kinds], np.int64)
        bounds = [np.reshape(k.bounds, -1) for k in kept if k.bounds is not None]
        self._bounds = np.concatenate(bounds) if bounds else None

    def changes(self, where: Array) -> Iterator[Change]:
        """What flips at these bits of the target do: sorted, distinct, all of these parts."""
        part = np.searchsorted(self._starts, where, "right") - 1
        local = where - self._starts[part]
        element = self._sizes[part] + local // self._bits
        first = _firsts(element)
        mask = np.left_shift(np.ones(1, self._codes.dtype), (local % self._bits).astype(self._codes.dtype))
        part, element = part[first], element[first]
        values = self._read(part, element, self._codes[element] ^ np.bitwise_xor.reduceat(mask, first))
        kind, place = self._kinds[part], element - self._sizes[part]
        for i in np.unique(kind):
            own, tensor = kind == i, self._tensors[self._kinds == i][0]
            if _plain(tensor):  # and so are all others of its kind
                at = self._offsets[part[own], None] + place[own, None] * tensor.dtype.itemsize
                at = (at + np.arange(tensor.dtype.itemsize)).reshape(-1)
            else:
                at = _bytes_of(tensor, place[own])
            yield Change(tensor.path, at, cast(values[own], tensor).view(np.uint8), False)

    def _read(self, part: Array, element: Array, codes: Array) -> Array:
        """What the protection makes of codes, float32."""
        row = self._first[part] + (element - self._sizes[part]) // self._inner[part] % self._count[part]
        bounds = None if self._bounds is None else self._bounds[row]
        return load(Stored(codes, replace(self._kept[0].plan, axis=0), self._factors[row], bounds))


def cast(values: Array, tensor: Held) -> Array:
    """Values as the file's own dtype holds them."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values.astype(tensor.dtype))


def _firsts(*keys: Array) -> Array:
    """Where a run of equal keys begins."""
    new = np.zeros(len(keys[0]), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)


def _before(pieces: Sequence[tuple[int, int]]) -> list[int]:
    """How many bytes lie in front of each piece."""
    return [0, *np.cumsum([n for _, n in pieces])[:-1].tolist()]


def _channels(kept: Stored) -> tuple[int, int]:
    """(values from one channel to the next, channels); 1 channel where there is one constant a tensor."""
    axis, shape = kept.plan.axis, kept.codes.shape
    return (max(1, kept.codes.size), 1) if axis is None else (math.prod(shape[axis + 1 :]), shape[axis])


def _plain(tensor: Held) -> bool:
    """Whether its values lie in one piece in C order."""
    return tensor.order is None and len(tensor.pieces) == 1


def _bytes_of(tensor: Held, elements: Array) -> Array:
    """Offsets in the file of all bytes of some values, given by their places in C order."""
    if tensor.order is not None:
        places = np.unravel_index(elements, tensor.shape)
        elements = np.ravel_multi_index(tuple(places[i] for i in tensor.order),
                                        tuple(tensor.shape[i] for i in tensor.order))
    width = tensor.dtype.itemsize
    at = (elements[:, None] * width + np.arange(width)).reshape(-1)
    if len(tensor.pieces) == 1:
        return np.asarray(at + tensor.pieces[0][0])
    starts = np.asarray(_before(tensor.pieces), np.int64)
    piece = np.searchsorted(starts, at, "right") - 1
    return np.asarray(np.asarray([o for o, _ in tensor.pieces], np.int64)[piece] + at - starts[piece])
