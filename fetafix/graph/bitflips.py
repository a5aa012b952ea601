"""Whether tensors differ as bits that flipped by themselves make them differ.

Flips that are independent of each other strike every bit of an element alike and few bits of each element; another
value differs in about half of its lower bits, a negated tensor in one and the same bit throughout, a rounded one in
the lowest bits alone. So with n bits that differ of size · bits,

    rate    n / (size · bits) is small;
    places  the bit that differs most often does so no more often than Binomial(n, 1 / bits) allows;
    heaps   the element in which most bits differ has no more than Binomial(bits, rate) allows.

Both tails are bounded by Chernoff's P(X ≥ k) ≤ exp(−n · KL(k/n ‖ p)), times the bits or elements among which the
largest was sought.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fetafix.ir import Array

RATE = 0.1  # beyond it hardly a value is whole, and nothing tells flips from other values
_RARE = 0.01
_SHARE, _EXPLAINED = 0.3, 0.8


def flipped(ours: Array, theirs: Array) -> int:
    """How many bits flipped between two tensors of codes; 0 where it does not look like flips.

    ours, theirs: of one shape and one dtype of 1, 2, 4 or 8 bytes.
    """
    struck = (bits_of(ours) ^ bits_of(theirs)).ravel()
    per, size = struck.dtype.itemsize * 8, struck.size
    struck = struck[struck != 0]
    places = [(struck >> struck.dtype.type(b)) & struck.dtype.type(1) for b in range(per)]
    counts = [int(p.sum()) for p in places]
    total, most = sum(counts), max(counts)
    if not total or total > RATE * size * per:
        return 0
    if (most > 1 and total < 3) or per * tail(most, total, 1 / per) < _RARE:
        return 0
    heap = int(np.sum(places, axis=0).max())
    return total if size * tail(heap, per, total / (size * per)) >= _RARE else 0


def tail(k: int, n: int, p: float) -> float:
    """No less than the probability that Binomial(n, p) reaches k."""
    share = k / n
    if share <= p:
        return 1.0
    rest = 0.0 if share == 1 else (1 - share) * math.log((1 - share) / (1 - p))
    return math.exp(-n * (share * math.log(share / p) + rest))


def one_each(codes: Array, read: Callable[[Array], Array], wanted: Array, within: Array | float, of: int) -> bool:
    """Whether one flip in each explains damaged elements of a tensor whose wanted values are known up to a tolerance.

    codes: of the damaged elements (n,), as stored. read: codes → numbers. wanted, within: (n,) each. of: elements of
    the tensor. True where that holds for most of few of them.
    """
    if not codes.size or codes.size > max(1, _SHARE * of):
        return False
    bits = bits_of(codes)
    explained = np.zeros(codes.shape, bool)
    for b in range(bits.dtype.itemsize * 8):
        with np.errstate(invalid="ignore", over="ignore"):
            back = read((bits ^ bits.dtype.type(1 << b)).view(codes.dtype)).astype(np.float64)
            explained |= np.abs(back - wanted) <= within
    return float(explained.mean()) >= _EXPLAINED


def bits_of(values: Array) -> Array:
    """The same bytes as unsigned integers of the same width."""
    return np.ascontiguousarray(values).view(np.dtype(f"u{values.dtype.itemsize}"))
