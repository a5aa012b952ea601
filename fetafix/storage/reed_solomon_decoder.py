"""Decoding of RS(255, k), many codewords side by side.

Syndromes, the error locator by Berlekamp and Massey's iteration ("Shift-Register Synthesis and BCH Decoding", IEEE
Transactions on Information Theory 15, 1969), its roots by trying all places (Chien), the errors by Forney's formula
("On Decoding BCH Codes", ibid. 11, 1965): e = X · Ω(X⁻¹) / Λ'(X⁻¹), for a first root of 2⁰.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.storage.galois import inverse, powers, times

Array = npt.NDArray[Any]
LENGTH = 255


def decode(words: Array, checks: int) -> tuple[Array, Array]:
    """Codewords uint8 (n, 255), highest power first → (mended ones, which of them (n,) bool hold no error any more)."""
    found = _syndromes(words, checks)
    locator, degree = _locator(found)
    roots, values = _roots(locator)
    fits = (roots.sum(1) == degree) & (degree <= checks // 2)
    mended = words ^ np.where(fits[:, None] & roots, _errors(found, locator, values), np.uint8(0))
    return mended, np.logical_not(_syndromes(mended, checks).any(1))


def _syndromes(words: Array, checks: int) -> Array:
    """The codewords at the roots, uint8 (n, checks)."""
    at, found = powers()[:checks], np.zeros((len(words), checks), np.uint8)
    for column in words.T:
        found = times(found, at) ^ column[:, None]
    return found


def _locator(syndromes: Array) -> tuple[Array, Array]:
    """The shortest recursion of the syndromes, lowest power first, uint8 (n, checks + 1), and its length (n,)."""
    count, checks = syndromes.shape
    current, previous = (np.zeros((count, checks + 1), np.uint8) for _ in range(2))
    current[:, 0] = previous[:, 0] = 1
    length, last = np.zeros(count, np.int64), np.ones(count, np.uint8)
    for k in range(checks):
        previous = np.concatenate([np.zeros((count, 1), np.uint8), previous[:, :-1]], 1)  # times x
        off = np.bitwise_xor.reduce(times(current[:, : k + 1], syndromes[:, k::-1][:, : k + 1]), 1)
        changed = current ^ times(times(off, inverse()[last])[:, None], previous)
        longer = (off != 0) & (2 * length <= k)
        previous = np.where(longer[:, None], current, previous)
        last = np.where(longer, off, last)
        length = np.where(longer, k + 1 - length, length)
        current = np.where((off != 0)[:, None], changed, current)
    return current, length


def _places() -> Array:
    """The logarithm of X⁻¹ for each place of a codeword, highest power first, (255,)."""
    return (255 - np.arange(LENGTH)[::-1]) % 255


def _roots(locator: Array) -> tuple[Array, Array]:
    """Which places are roots, bool (n, 255); the locator's odd terms there, which are X⁻¹ · Λ'(X⁻¹), uint8 (n, 255)."""
    value, odd = (np.zeros((len(locator), LENGTH), np.uint8) for _ in range(2))
    for k, term in enumerate(locator.T):
        found = times(term[:, None], powers()[_places() * k % 255][None, :])
        value ^= found
        odd ^= found if k % 2 else np.uint8(0)
    return value == 0, odd


def _errors(syndromes: Array, locator: Array, odd: Array) -> Array:
    """The error at each place, were it a root, uint8 (n, 255): Ω(X⁻¹) / (X⁻¹ · Λ'(X⁻¹)), Ω = S · Λ mod x^checks."""
    checks = syndromes.shape[1]
    value = np.zeros((len(syndromes), LENGTH), np.uint8)
    for k in range(checks):
        term = np.bitwise_xor.reduce(times(syndromes[:, : k + 1], locator[:, k::-1][:, : k + 1]), 1)
        value ^= times(term[:, None], powers()[_places() * k % 255][None, :])
    return times(value, inverse()[odd])
