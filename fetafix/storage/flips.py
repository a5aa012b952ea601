"""Random bit flips: each bit of a storage flips by itself with probability BER.

The gaps between flips of independent bits are geometric, so positions = cumsum(gaps) − 1 are exactly what a coin for
every bit would give, sorted and without repetition, at the cost of the flips alone (Devroye, "Non-Uniform Random
Variate Generation", 1986, X.2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError

Array = npt.NDArray[Any]


def positions(rng: np.random.Generator, bits: int, ber: float) -> Array:
    """Which of `bits` bits flip at a bit-error rate: sorted, distinct, int64 (flips,).

    Raises UsageError for a rate outside 0…1.
    """
    if not 0.0 <= ber <= 1.0:
        raise UsageError(f"a bit-error rate lies between 0 and 1, found {ber!r}")
    if ber == 0.0 or bits <= 0:
        return np.empty(0, np.int64)
    found, last = [], -1
    while last < bits - 1:
        left = bits - 1 - last
        count = int(left * ber + 6.0 * math.sqrt(left * ber) + 16.0)  # mostly enough at once
        gaps = rng.geometric(ber, count)
        np.minimum(gaps, bits + 1, out=gaps)  # a tiny rate overflows the sum otherwise
        reached = last + np.cumsum(gaps)
        found.append(reached[reached < bits])
        last = int(reached[-1])
    return np.concatenate(found)


def flip(codes: Array, where: Array, bits: int | None = None) -> None:
    """Flip bits of codes in place; the same again undoes it.

    codes: unsigned integers, contiguous. where: positions among the codes' stored bits, `bits` to a code (all of the
    dtype's by default), 0 the lowest bit of the first code; distinct. Raises UsageError where one lies outside.
    """
    per = codes.dtype.itemsize * 8 if bits is None else bits
    if where.size and not 0 <= int(where[0]) <= int(where[-1]) < codes.size * per:
        raise UsageError(f"flips at bits {int(where[0])} to {int(where[-1])} of a storage of {codes.size * per} bits")
    element, bit = np.divmod(where, per)
    mask = np.left_shift(np.ones(1, codes.dtype), bit.astype(codes.dtype))
    flat = codes.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], element[1:] != element[:-1]])) if where.size else element
    if where.size:  # several flips of one code become one mask, so that fancy indexing loses none
        flat[element[starts]] ^= np.bitwise_xor.reduceat(mask, starts)


def split(where: Array, sizes: list[int]) -> list[Array]:
    """Positions within a row of storages of these sizes (in bits) → positions within each."""
    edges = np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])
    cuts = np.searchsorted(where, edges)
    return [where[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], edges[:-1], strict=True)]
