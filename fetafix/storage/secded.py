"""SECDED(32, 26) within a float32: the six lowest mantissa bits give way to check bits.

An extended Hamming code (Hamming, "Error Detecting and Error Correcting Codes", 1950): 26 data bits, 5 check bits and
an overall parity; corrects every single flip of a word and detects every double one. What is lost is 6 of 23 mantissa
bits, a relative error of at most 2^−18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DATA, CHECK = 26, 6
_ONE = np.uint32(1)


def _columns() -> list[int]:
    """The five-bit syndrome of each data bit: the numbers 3 to 31 that are no powers of two."""
    return [n for n in range(3, 32) if n & (n - 1)][:DATA]


_MASKS = [np.uint32(sum(1 << i for i, c in enumerate(_columns()) if c >> k & 1)) for k in range(CHECK - 1)]
_BIT_OF = np.zeros(32, np.int64)  # syndrome → position in the word: data bits stand above the check bits
for _i, _c in enumerate(_columns()):
    _BIT_OF[_c] = CHECK + _i
for _k in range(CHECK - 1):
    _BIT_OF[1 << _k] = _k


@dataclass(frozen=True, slots=True)
class Read:
    """Words as read. values: float32, detected double flips among them as 0. corrected, detected: how many words."""

    values: Array
    corrected: int
    detected: int


def _parity(words: Array) -> Array:
    return (np.bitwise_count(words) & np.uint8(1)).astype(np.uint32)


def _checks(data: Array) -> Array:
    """The five check bits of 26 data bits."""
    found = np.zeros_like(data)
    for k, mask in enumerate(_MASKS):
        found |= _parity(data & mask) << np.uint32(k)
    return found


def encode(values: Array) -> Array:
    """float32 (…) → words uint32 (…): rounded to 17 mantissa bits, check bits in the six lowest."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(1 << CHECK - 1)
    rounded = bits + np.uint32(half - _ONE) + (bits >> np.uint32(CHECK) & _ONE)
    overflows = ~np.isfinite((rounded & np.uint32(0xFFFFFFC0)).view(np.float32))
    data = np.where(overflows, bits, rounded) >> np.uint32(CHECK)
    word = (data << np.uint32(CHECK)) | _checks(data)
    return word | _parity(word) << np.uint32(CHECK - 1)


def decode(words: Array) -> Read:
    """Words uint32 (…) → the values (…), every single flip of a word corrected, every double one detected."""
    stored = np.ascontiguousarray(words, np.uint32)
    syndrome = (stored & np.uint32(31)) ^ _checks(stored >> np.uint32(CHECK))
    odd = _parity(stored).astype(bool)
    at = _BIT_OF[syndrome]
    known = (at > 0) | (syndrome == 1)
    single = odd & (syndrome != 0) & known
    fixed = np.where(single, stored ^ (_ONE << at.astype(np.uint32)), stored)
    broken = (~odd & (syndrome != 0)) | (odd & (syndrome != 0) & ~known)
    values = (fixed & np.uint32(0xFFFFFFC0)).view(np.float32)
    return Read(np.where(broken, np.float32(0), values), int(np.count_nonzero(odd & ~broken)),
                int(np.count_nonzero(broken)))
