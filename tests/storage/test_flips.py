"""The flip engine: exactly independent bits, by counts and by places; undone by doing it again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.errors import UsageError
from fetafix.storage.flips import flip, positions, split

CHI_99_9 = {9: 27.88, 31: 61.10}  # 99.9% quantiles of χ² by degrees of freedom


def _chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sum((counts - expected) ** 2 / expected))


def test_how_many_flip_is_binomial() -> None:
    bits, ber, trials = 200, 0.05, 8_000
    rng = np.random.default_rng(1)
    counts = np.array([positions(rng, bits, ber).size for _ in range(trials)])
    edges = [-1, 5, 6, 7, 8, 9, 10, 11, 12, 14, bits]
    log = np.cumsum(np.log(np.concatenate([[1.0], np.arange(1, bits + 1)])))
    k = np.arange(bits + 1)
    chance = np.exp(log[bits] - log[k] - log[bits - k] + k * np.log(ber) + (bits - k) * np.log1p(-ber))
    expected = np.array([chance[a + 1 : b + 1].sum() for a, b in pairwise(edges)]) * trials
    found = np.array([((counts > a) & (counts <= b)).sum() for a, b in pairwise(edges)])
    assert _chi_square(found, expected) < CHI_99_9[9]


def test_every_place_is_as_likely() -> None:
    rng = np.random.default_rng(2)
    where = np.concatenate([positions(rng, 32 * 64, 1e-2) for _ in range(2000)])
    assert _chi_square(np.bincount(where % 32, minlength=32), np.full(32, where.size / 32)) < CHI_99_9[31]
    assert _chi_square(np.bincount(where // 64, minlength=32), np.full(32, where.size / 32)) < CHI_99_9[31]


@given(st.integers(0, 3000), st.floats(0, 1), st.integers(0, 2**32))
def test_positions_are_sorted_distinct_and_inside(bits: int, ber: float, seed: int) -> None:
    where = positions(np.random.default_rng(seed), bits, ber)
    assert (np.diff(where) > 0).all()
    assert not where.size or (where[0] >= 0 and where[-1] < bits)
    assert (ber > 0 or not where.size) and (ber < 1 or where.size == bits)


def test_tiny_rates_do_not_overflow() -> None:
    assert positions(np.random.default_rng(0), 10**12, 1e-18).size == 0


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.sampled_from([("uint8", 8), ("uint8", 6), ("uint32", 32)]))
def test_flipping_strikes_those_bits_and_twice_none(seed: int, ber: float, form: tuple[str, int]) -> None:
    rng, (dtype, bits) = np.random.default_rng(seed), form
    codes = rng.integers(0, 2**bits, (7, 9)).astype(dtype)
    before, where = codes.copy(), positions(rng, 63 * bits, ber)
    flip(codes, where, bits)
    changed = np.unpackbits((codes ^ before).astype("<" + codes.dtype.str[1:]).view(np.uint8).reshape(63, -1),
                            axis=1, bitorder="little")[:, :bits].reshape(-1)
    assert np.array_equal(np.flatnonzero(changed), where)
    flip(codes, where, bits)
    assert np.array_equal(codes, before)


def test_places_outside_are_refused() -> None:
    with pytest.raises(UsageError, match="storage of 16 bits"):
        flip(np.zeros(2, np.uint8), np.array([16]))
    with pytest.raises(UsageError, match="between 0 and 1"):
        positions(np.random.default_rng(0), 8, 1.5)


def test_positions_by_storage() -> None:
    parts = split(np.array([0, 7, 8, 30, 39]), [8, 0, 32])
    assert [p.tolist() for p in parts] == [[0, 7], [], [0, 22, 31]]
