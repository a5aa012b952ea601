from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.tasks.regression import Regression, errors, r_squared
from tests.judge.tasks.support import agree, claimed, figures, seen

REG = Regression()
RNG = np.random.default_rng(0)
AGES = RNG.normal(40, 10, (50, 1))
VALUES = hnp.arrays(np.float64, (6, 2), elements=st.floats(-100, 100))


def test_by_hand() -> None:
    s = np.array([[0.0], [2.0], [4.0], [6.0]])
    t = s + np.array([[0.0], [0.0], [1.0], [0.0]])
    assert figures(REG, s, t) == pytest.approx({"r2": 1 - 1 / 20, "spreads": 1 / np.sqrt(5), "max_abs": 1.0})


def test_the_worst_quantity_counts() -> None:
    s = np.stack([np.arange(8.0), np.arange(8.0) * 100], 1)
    t = s.copy()
    t[3, 0] += 3
    assert figures(REG, s, t)["r2"] == pytest.approx(1 - 9 / 42) and agree(REG, s, t)[3] is False


@given(VALUES)
def test_equal_values_agree(s: np.ndarray) -> None:
    found = seen(REG, s, s)
    assert r_squared(found) == 1.0 and not errors(found).any() and REG.likeness(found) == 1.0


@given(VALUES, st.floats(0, 10), st.floats(0, 10))
def test_more_damage_is_never_better(s: np.ndarray, near: float, more: float) -> None:
    direction = np.random.default_rng(2).normal(size=s.shape)
    a, b = (seen(REG, s, s + k * direction) for k in (near, near + more))
    assert r_squared(a) >= r_squared(b) - 1e-9 and (errors(a) <= errors(b) * (1 + 1e-9) + 1e-9).all()


@given(VALUES, VALUES, st.integers(0, 100))
def test_the_order_of_the_samples_does_not_count(s: np.ndarray, t: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(6)
    assert errors(seen(REG, s[order], t[order])) == pytest.approx(errors(seen(REG, s, t))[order], rel=1e-6)


def test_a_twentieth_of_a_spread_is_allowed() -> None:
    spread = AGES.std()
    assert agree(REG, AGES, AGES + 0.04 * spread) == [True] * 50
    assert agree(REG, AGES, AGES + 0.06 * spread) == [False] * 50
    assert agree(REG, AGES[:, 0], AGES[:, 0]) == [True] * 50


def test_what_does_not_vary_is_measured_by_its_size() -> None:
    s = np.full((5, 1), 7.0)
    assert agree(REG, s, s * (1 + 1e-6)) == [True] * 5 and agree(REG, s, s * 1.01) == [False] * 5


def test_a_nan_disagrees_unless_both_say_so() -> None:
    s, t = AGES.copy(), AGES.copy()
    t[4] = np.nan
    assert agree(REG, s, t).count(False) == 1
    s[4] = np.nan
    assert all(agree(REG, s, t))


def test_only_what_is_clearly_off_is_lost() -> None:
    noted = seen(REG, AGES, AGES + np.where(np.arange(50) < 3, 8, 1.0)[:, None])
    assert REG.lost(noted, REG.limits).sum() == 3 and not REG.final(noted, REG.limits)
    assert not REG.lost(seen(REG, AGES[:2], AGES[:2] + 99), REG.limits).any()


@pytest.mark.parametrize(("name", "values", "sure"), [
    ("landmarks", RNG.normal(size=(9, 10)), ["yes"]), ("pose", RNG.normal(size=(9, 6)), ["yes"]),
    ("y", RNG.normal(size=(9, 1)), ["maybe"]), ("y", RNG.uniform(size=(9, 1)), []), ("y", RNG.normal(size=(9, 10)), []),
    ("landmarks", np.ones((9, 10)), []), ("landmarks", RNG.normal(size=(9, 10, 64)), []),
    ("landmarks", np.arange(9)[:, None], []),
])
def test_what_it_takes_for_quantities(name: str, values: np.ndarray, sure: list[str]) -> None:
    assert claimed(REG, **{name: values}) == sure
