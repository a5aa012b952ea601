"""What a Reed-Solomon code leaves of flips, without the data, is what decoding the data leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.storage.flips import flip
from fetafix.storage.left_over import check_bits, left_over
from fetafix.storage.reed_solomon import check_bytes, restore


def decoded(where: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Positions of the bits of random data that are wrong after data and check bytes were struck, and decoded."""
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    check = check_bytes(data, 16)
    struck = np.concatenate([data, check.reshape(-1)])
    flip(struck, where, 8)
    whole, _, _ = restore(struck[:size].copy(), struck[size:].reshape(check.shape))
    return np.flatnonzero(np.unpackbits(whole ^ data, bitorder="little"))


@given(size=st.integers(1, 900), ber=st.sampled_from([0.0, 1e-3, 4e-3, 8e-3, 0.05, 0.5]), seed=st.integers(0, 2**32))
def test_as_decoding_the_data_itself(size: int, ber: float, seed: int) -> None:
    total = 8 * size + check_bits(8 * size)
    where = np.flatnonzero(np.random.default_rng(seed).random(total) < ber)
    np.testing.assert_array_equal(left_over(where, 8 * size), decoded(where, size, seed))


def test_some_of_these_are_beyond_repair() -> None:
    total = 8 * 2000 + check_bits(8 * 2000)
    where = np.flatnonzero(np.random.default_rng(1).random(total) < 6e-3)
    left = left_over(where, 8 * 2000)
    assert 0 < left.size < where.size
    np.testing.assert_array_equal(left, decoded(where, 2000, 3))


@pytest.mark.parametrize("wrong", [8, 9])
def test_eight_wrong_bytes_of_a_codeword_are_mended_nine_are_not(wrong: int) -> None:
    where = np.arange(wrong) * 8 + 3
    assert left_over(where, 8 * 239).tolist() == ([] if wrong == 8 else where.tolist())


def test_data_that_ends_within_a_byte() -> None:
    where = np.arange(0, 64 + 128, 5)  # in each of the data's bytes and of the check bytes
    assert left_over(where, 61).tolist() == list(range(0, 61, 5))
    assert check_bits(61) == 128
