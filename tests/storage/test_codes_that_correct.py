"""SECDED within words, Reed-Solomon beside the file: what they promise, exhaustively or by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.errors import UsageError
from fetafix.storage import reed_solomon, secded
from fetafix.storage.galois import inverse, product, times

WEIGHTS = np.concatenate([np.random.default_rng(0).normal(0, 0.02, 200), [0.0, -0.0, 1.0, -2.0**-140, 3e38]])
WORDS = secded.encode(WEIGHTS.astype(np.float32))


def test_secded_costs_six_bits_of_the_mantissa() -> None:
    read = secded.decode(WORDS)
    assert (read.corrected, read.detected) == (0, 0)
    normal = np.abs(WEIGHTS) > 1e-37
    assert (np.abs(read.values[normal] / WEIGHTS[normal] - 1) <= 2.0**-18 * 1.0001).all()


def test_secded_keeps_what_fits_its_mantissa() -> None:
    exact = np.array([0.0, 1.5, -2.0**-20, 2.0**100], np.float32)
    assert np.array_equal(secded.decode(secded.encode(exact)).values, exact)


def test_secded_corrects_every_single_flip() -> None:
    clean = secded.decode(WORDS).values
    for bit in range(32):
        read = secded.decode(WORDS ^ np.uint32(1 << bit))
        assert np.array_equal(read.values.view(np.uint32), clean.view(np.uint32)), bit
        assert (read.corrected, read.detected) == (WORDS.size, 0)


def test_secded_detects_every_double_flip() -> None:
    for a in range(32):
        for b in range(a):
            read = secded.decode(WORDS ^ np.uint32(1 << a | 1 << b))
            assert (read.corrected, read.detected) == (0, WORDS.size), (a, b)
            assert not read.values.any()


def test_the_field() -> None:
    table = product()
    assert (np.sort(table[1:, 1:], 1) == np.arange(1, 256)).all()  # every row of a group's table is a permutation
    numbers = np.arange(1, 256, dtype=np.uint8)
    assert (times(numbers, inverse()[numbers]) == 1).all()
    assert table[2, 0x80] == 0x1D


@given(st.integers(0, 2**32), st.sampled_from([2, 16, 32]), st.integers(1, 700))
@settings(max_examples=40)
def test_reed_solomon_restores_up_to_its_bound(seed: int, checks: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, size).astype(np.uint8)
    check = reed_solomon.check_bytes(data, checks)
    count, struck, broken = len(check), data.copy(), check.copy()
    for j in range(count):  # anywhere in the codeword, its check bytes too, as many as it can bear
        own = np.arange(j, size, count)
        places = rng.choice(own.size + checks, min(checks // 2, own.size + checks), replace=False)
        for place in places:
            error = np.uint8(rng.integers(1, 256))
            if place < own.size:
                struck[own[place]] ^= error
            else:
                broken[j, place - own.size] ^= error
    restored, mended, lost = reed_solomon.restore(struck, broken)
    assert np.array_equal(restored, data)
    assert (mended, lost) == (count, 0)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_reed_solomon_owns_up_to_what_it_cannot_mend(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, 239).astype(np.uint8)
    check, struck = reed_solomon.check_bytes(data, 16), data.copy()
    struck[rng.choice(239, 20, replace=False)] ^= rng.integers(1, 256, 20).astype(np.uint8)
    restored, mended, lost = reed_solomon.restore(struck, check)
    assert (mended, lost) == (0, 1)
    assert np.array_equal(restored, struck)


def test_a_burst_strikes_many_codewords_a_little() -> None:
    data = np.random.default_rng(3).integers(0, 256, 239 * 40).astype(np.uint8)
    check, struck = reed_solomon.check_bytes(data, 16), data.copy()
    struck[1000:1320] ^= 0xFF
    assert np.array_equal(reed_solomon.restore(struck, check)[0], data)


def test_odd_numbers_of_check_bytes_are_refused() -> None:
    with pytest.raises(UsageError, match="come in pairs"):
        reed_solomon.check_bytes(np.zeros(5, np.uint8), 3)
