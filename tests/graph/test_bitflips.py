"""What looks like flipped bits: flips do, at any rate up to a tenth; other ways to differ do not."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.graph.bitflips import flipped, one_each, tail
from fetafix.storage.flips import flip, positions

DTYPES = (np.float32, np.float16, np.int8, np.int32)


def values(dtype: type, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "i":
        return rng.integers(-127, 128, size).astype(dtype)
    return rng.normal(0, 0.1, size).astype(dtype)


def struck(clean: np.ndarray, ber: float, seed: int) -> tuple[np.ndarray, int]:
    found = clean.copy()
    bits = clean.itemsize * 8
    where = positions(np.random.default_rng(seed), clean.size * bits, ber)
    flip(found.view(f"u{clean.itemsize}"), where)
    return found, len(where)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ber", [1e-3, 1e-2, 5e-2])
def test_flips_are_known_and_counted_at_any_rate(dtype: type, ber: float) -> None:
    found = 0
    for seed in range(40):
        clean = values(dtype, 600, seed)
        damaged, count = struck(clean, ber, seed)
        number = flipped(damaged, clean)
        assert number in (0, count)
        found += number == count
    assert found >= 37  # the two tails are cut where one of a hundred is


@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float16]))
def test_other_values_are_none(seed: int, dtype: type) -> None:
    clean = values(dtype, 64, seed)
    assert not flipped(values(dtype, 64, seed + 1), clean)


@pytest.mark.parametrize("change", [
    lambda w: -w, lambda w: w * np.float32(2), lambda w: np.where(np.arange(w.size) < 8, -w, w),
    lambda w: w.astype(np.float16).astype(np.float32), lambda w: w + np.float32(1e-3), lambda w: np.roll(w, 1),
    lambda w: np.nextafter(w, np.float32(9)), lambda w: w,
    lambda w: (w.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
])  # fmt: skip
def test_what_converters_do_is_none(change: object) -> None:
    clean = values(np.float32, 256, 1)
    assert not flipped(np.ascontiguousarray(change(clean)), clean)  # type: ignore[operator]


@given(st.integers(1, 60), st.floats(0.001, 0.9), st.data())
def test_the_tail_is_no_less_than_binomials(n: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert tail(k, n, p) >= exact * (1 - 1e-9)


def test_one_flip_each_explains_values_known_up_to_a_tolerance() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=20)
    codes = wanted.astype(np.float32)
    codes.view(np.uint32)[:] ^= (np.uint32(1) << rng.integers(20, 32, 20).astype(np.uint32))
    read = lambda c: c  # noqa: E731
    assert one_each(codes, read, wanted, 1e-6, 400)
    assert not one_each(codes, read, wanted, 1e-6, 40)  # half of all elements
    assert not one_each(rng.normal(size=20).astype(np.float32), read, wanted, 1e-6, 400)
