"""Which flips a Reed-Solomon code beside the data leaves: what lies in storage is data and check bytes, both struck.

    left_over(where, bits)         bits of the data that are still wrong once the code has mended what it can

The code is linear: what its decoder makes of a codeword with errors is the codeword plus what it makes of the errors
alone. So neither data nor check bytes are needed to know what is left. Codewords interleave as in `reed_solomon`:
codeword j holds the bytes j, j + count, …; behind the data follow its check bytes, one codeword's after the other's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.storage.reed_solomon import codewords
from fetafix.storage.reed_solomon_decoder import LENGTH, decode

Array = npt.NDArray[Any]
CHECKS = 16  # RS(255, 239): mends 8 wrong bytes of 255


def check_bits(bits: int, checks: int = CHECKS) -> int:
    """How many bits of check bytes protect so many bits of data."""
    return 8 * checks * codewords(_bytes(bits), checks)


def left_over(where: Array, bits: int, checks: int = CHECKS) -> Array:
    """Positions of data bits that stay wrong, sorted, int64, of flips at sorted, distinct positions.

    where: int64 among `bits` of data and, behind its last whole byte, `check_bits(bits)` of check bytes. A codeword of
    which no more than checks / 2 bytes are wrong is mended (Reed and Solomon, 1960); of another one the decoder notices
    that, and leaves it as it is, or takes it for another codeword and makes it worse.
    """
    count = codewords(_bytes(bits), checks)
    byte = where >> 3
    own = byte >= _bytes(bits)
    behind = byte - _bytes(bits)
    word = np.where(own, behind // checks, byte % count)
    place = np.where(own, LENGTH - checks + behind % checks, byte // count)
    wrong, which = np.unique(word * LENGTH + place, return_inverse=True)
    masks = np.bincount(which, weights=2.0 ** (where & 7), minlength=wrong.size).astype(np.uint8)
    lost, row, many = np.unique(wrong // LENGTH, return_inverse=True, return_counts=True)
    bad = np.flatnonzero(many > checks // 2)
    if not bad.size:
        return np.zeros(0, np.int64)
    errors = np.zeros((bad.size, LENGTH), np.uint8)
    rank = np.full(lost.size, -1)
    rank[bad] = np.arange(bad.size)
    mine = rank[row] >= 0
    errors[rank[row[mine]], wrong[mine] % LENGTH] = masks[mine]
    after = decode(errors, checks)[0]
    return _positions(after[:, : LENGTH - checks], lost[bad], count, bits)


def left_rate(ber: float, checks: int = CHECKS) -> float:
    """The probability that a bit of the data is wrong after decoding: it flipped, and its codeword is beyond repair.

    That is so where at least checks / 2 of the 254 other bytes are wrong, each with 1 − (1 − BER)⁸. What a decoder that
    takes such a codeword for another one adds is left out.
    """
    return ber * tail(LENGTH - 1, checks // 2, byte_rate(ber))


def rate_leaving(left: float, checks: int = CHECKS) -> float:
    """The bit-error rate at which `left_rate` is so much, by halving in its logarithm; 1 where it never is."""
    low, high = -300.0, 0.0
    if left_rate(1.0 - 1e-9, checks) < left:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if left_rate(10.0**middle, checks) < left else (low, middle)
    return float(10.0**high)


def byte_rate(ber: float) -> float:
    """The probability that a byte is wrong."""
    return -math.expm1(8 * math.log1p(-ber)) if ber < 1 else 1.0


def tail(count: int, least: int, rate: float) -> float:
    """P(X ≥ least) of a binomial X, summed from the upper terms, which keeps it exact where it is tiny."""
    if not 0.0 < rate < 1.0:
        return rate
    terms = (math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
             + k * math.log(rate) + (count - k) * math.log1p(-rate) for k in range(least, count + 1))
    return min(1.0, math.fsum(math.exp(t) for t in terms))


def _positions(errors: Array, words: Array, count: int, bits: int) -> Array:
    """The set bits of data bytes, uint8 (n, data bytes of a codeword), of these codewords."""
    row, place, bit = np.nonzero(np.unpackbits(errors[:, :, None], axis=2, bitorder="little"))
    found = 8 * (words[row] + count * place) + bit
    return np.sort(found[found < bits]).astype(np.int64)


def _bytes(bits: int) -> int:
    return -(-bits // 8)
