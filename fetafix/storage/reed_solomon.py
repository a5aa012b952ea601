"""RS(255, k) over GF(256), systematic, for a sidecar file: restores bytes exactly.

255 − k check bytes to k data bytes correct (255 − k) / 2 wrong bytes of a codeword, or twice as many at known places
(Reed and Solomon, "Polynomial Codes over Certain Finite Fields", 1960). Field polynomial x⁸+x⁴+x³+x²+1 (0x11D),
generator 2, roots 2⁰ … 2^(checks−1). Many codewords are worked on side by side. Codewords interleave the
data (codeword j holds bytes j, j + count, …), so that a burst strikes many of them a little.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.storage.galois import powers, product
from fetafix.storage.reed_solomon_decoder import LENGTH, decode

Array = npt.NDArray[Any]
_BLOCK = 4096  # codewords at once


@cache
def _remainders(checks: int) -> Array:
    """The check bytes that each data byte's 1 contributes, uint8 (255 − checks, checks)."""
    generator = np.array([1], np.uint8)  # Π (x − 2^i), highest power first
    for i in range(checks):
        longer = np.append(generator, np.uint8(0))
        longer[1:] ^= product()[generator, powers()[i]]
        generator = longer
    rows = np.zeros((LENGTH - checks, checks), np.uint8)
    rest = generator[1:].copy()  # of x^checks, then of each higher power
    for i in range(LENGTH - checks - 1, -1, -1):
        rows[i] = rest
        lead = rest[0]
        rest = np.append(rest[1:], np.uint8(0)) ^ product()[lead, generator[1:]]
    return rows


def codewords(size: int, checks: int) -> int:
    """How many codewords protect `size` bytes."""
    return -(-size // (LENGTH - checks))


def check_bytes(data: Array, checks: int) -> Array:
    """Check bytes of data, uint8 (size,) → uint8 (codewords, checks). Raises UsageError for an odd or silly number."""
    if checks % 2 or not 2 <= checks <= 128:
        raise UsageError(f"check bytes come in pairs, 2 to 128 to a codeword of {LENGTH}; found {checks}")
    return _encode(_laid(data, checks), checks)


def _laid(data: Array, checks: int) -> Array:
    """Data by codeword, zeros at the end, uint8 (codewords, 255 − checks)."""
    count, length = codewords(data.size, checks), LENGTH - checks
    padded = np.zeros(count * length, np.uint8)
    padded[: data.size] = data
    return padded.reshape(length, count).T


def _encode(words: Array, checks: int) -> Array:
    rows, table = _remainders(checks), product()
    made = np.zeros((len(words), checks), np.uint8)
    for start in range(0, len(words), _BLOCK):
        block = made[start : start + _BLOCK]
        for i, row in enumerate(rows):
            block ^= table[row[None, :], words[start : start + _BLOCK, i][:, None]]
    return made


def restore(data: Array, check: Array) -> tuple[Array, int, int]:
    """Data as it was: (data uint8 (size,), codewords mended, codewords with more errors than can be mended).

    check: the check bytes, uint8 (codewords, checks), perhaps damaged too. What cannot be mended stays as it is.
    """
    checks = check.shape[1]
    words = np.ascontiguousarray(_laid(data, checks))
    bad = np.flatnonzero((_encode(words, checks) != check).any(1))
    mended = 0
    for start in range(0, bad.size, _BLOCK):
        block = bad[start : start + _BLOCK]
        whole, well = decode(np.concatenate([words[block], check[block]], 1), checks)
        words[block[well]] = whole[well, : LENGTH - checks]
        mended += int(np.count_nonzero(well))
    return np.ascontiguousarray(words.T).reshape(-1)[: data.size], mended, int(bad.size) - mended
