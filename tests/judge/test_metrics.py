from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.metrics import Errors, errors

FLOATS = st.floats(-1e6, 1e6, width=32)
PAIRS = hnp.array_shapes(max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=FLOATS)] * 2)
)


def test_figures_by_hand() -> None:
    e = errors(np.array([3.0, 4.0, 0.0]), np.array([3.0, 3.0, 0.0]))
    assert (e.n, e.compared, e.max_abs, e.mean_abs) == (3, 3, 1.0, pytest.approx(1 / 3))
    assert (e.max_rel, e.mean_rel) == (0.25, pytest.approx(0.25 / 3))
    assert e.rel_l2 == pytest.approx(0.2)
    assert e.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert e.sqnr_db == pytest.approx(10 * math.log10(25))
    assert e.scale == 4.0


@given(PAIRS)
def test_chunks_add_up_to_the_whole(pair: tuple[np.ndarray, np.ndarray]) -> None:
    s, t = pair
    whole = errors(s, t)
    parts = sum((errors(s[i : i + 1], t[i : i + 1]) for i in range(len(s))), Errors())
    for name in Errors.__slots__:
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-9, abs=1e-12), name


@given(PAIRS)
def test_ranges(pair: tuple[np.ndarray, np.ndarray]) -> None:
    e = errors(*pair)
    assert e.cosine is not None and -1 <= e.cosine <= 1
    assert 0 <= e.max_rel <= 2
    assert e.mean_abs is not None and e.mean_abs <= e.max_abs * (1 + 1e-12)


@given(PAIRS)
def test_identical_is_exact(pair: tuple[np.ndarray, np.ndarray]) -> None:
    e = errors(pair[0], pair[0].copy())
    assert (e.max_abs, e.rel_l2, e.sqnr_db) == (0.0, 0.0, None)
    assert e.cosine == pytest.approx(1.0)


def test_zero_references() -> None:
    zero, one = np.zeros(4), np.ones(4)
    assert errors(zero, zero).cosine == 1.0
    assert errors(zero, zero).rel_l2 == 0.0
    assert errors(zero, one).cosine == 0.0
    assert errors(zero, one).rel_l2 == 1.0
    assert errors(one, zero).rel_l2 == 1.0
    assert errors(np.zeros(0), np.zeros(0)).rel_l2 is None


def test_nonfinite_positions() -> None:
    s = np.array([1.0, np.nan, np.inf, 2.0, np.inf])
    t = np.array([1.5, np.nan, -np.inf, np.nan, np.inf])
    e = errors(s, t)
    assert (e.nonfinite_source, e.nonfinite_target, e.nonfinite_differs) == (3, 4, 2)
    assert (e.compared, e.max_abs) == (1, 0.5)


def test_other_dtypes() -> None:
    assert errors(np.array([True, False]), np.array([True, True])).max_abs == 1.0
    assert errors(np.array([250], np.uint8), np.array([3], np.uint8)).max_abs == 247.0
    assert errors(np.array(["cat", "dog"]), np.array(["cat", "cow"])).mean_abs == 0.5
    assert errors(np.array([1 + 1j]), np.array([1 - 1j])).max_abs == 2.0


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="one shape"):
        errors(np.zeros((1, 3)), np.zeros(3))
