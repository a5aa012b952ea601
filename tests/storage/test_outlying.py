"""The guard of tensors that have none: only what stands out as an exponent's flip makes it."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.storage.outlying import guarded, outlying


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(5))
def test_trained_weights_are_left_alone(dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (rng.normal(0, 0.02, (64, 9)), rng.laplace(0, 0.1, 5000), rng.standard_t(4, 2000), np.zeros(8)):
        assert not outlying(values.astype(dtype)).any()


@pytest.mark.parametrize(("dtype", "bit"), [(np.float32, 30), (np.float16, 14)])
def test_a_flip_of_the_exponents_top_bit_stands_out(dtype: type, bit: int) -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 500).astype(dtype)
    codes = values.view(f"u{values.itemsize}")
    struck = np.flatnonzero(np.abs(values) > 0.02)[:5]
    codes[struck] ^= codes.dtype.type(1 << bit)
    mended, count = guarded(values)
    assert count == 5 and (mended[struck] == 0).all() and mended.dtype == values.dtype
    np.testing.assert_array_equal(np.delete(mended, struck), np.delete(values, struck))


def test_no_numbers_are_outlying_wherever_they_are() -> None:
    assert outlying(np.array([np.nan, 1.0, np.inf], np.float32)).tolist() == [True, False, True]
    assert outlying(np.full(9, np.nan, np.float32)).all()
