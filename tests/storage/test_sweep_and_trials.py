"""Rates, flips by trial, and what trials show: against known distributions and by simulation."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fetafix.errors import UsageError
from fetafix.storage import sweep
from fetafix.storage.trials import Rule, mcnemar, spread, tolerated


def test_rates() -> None:
    assert sweep.rates("1e-8..1e-2") == (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    assert sweep.rates("1e-5..1e-4", 2) == (1e-5, 3.16e-5, 1e-4)
    assert sweep.rates("2e-5..1e-3") == (2e-5, 2e-4, 1e-3)
    assert sweep.rates("1e-3, 1e-6,1e-3") == (1e-6, 1e-3) and sweep.rates("3e-7") == (3e-7,)
    for wrong in ("", "1e-2..1e-8", "0..1e-2", "2", "-1e-3", "nan", "a..b"):
        with pytest.raises(UsageError):
            sweep.rates(wrong)


def test_flips_rest_on_seed_rate_trial_and_size_alone() -> None:
    first = sweep.flips_of(3, 1e-3, 5, 100_000)
    np.testing.assert_array_equal(first, sweep.flips_of(3, 1e-3, 5, 100_000))
    others = [sweep.flips_of(4, 1e-3, 5, 100_000), sweep.flips_of(3, 1e-3, 6, 100_000),
              sweep.flips_of(3, 1.1e-3, 5, 100_000)]
    assert all(not np.array_equal(first, o) for o in others)
    assert first.tolist()[:3] == [379, 489, 1076], "replays of older versions stay what they were"


@given(st.integers(1, 10**10), st.floats(1e-12, 1e-3))
def test_the_probability_that_no_bit_flips(bits: int, ber: float) -> None:
    exact = sweep.untouched(bits, ber)
    assert exact == pytest.approx(stats.binom.pmf(0, bits, ber), rel=1e-6, abs=1e-300)
    assert sweep.untouched(bits, sweep.rate_untouched(bits, 0.95)) == pytest.approx(0.95, rel=1e-9)


def test_bounds_are_exact_at_the_edges() -> None:
    rule = Rule(0.95, 0.95)
    assert rule.bounds(0, 0, 0.3) == (0.3, 1.0) and rule.estimate(0, 0, 0.3) == 1.0
    assert rule.decided(0, 0, 0.96) == "yes" and rule.kind(0.96) == "certain"
    assert rule.decided(72, 72, 0.0) == "yes" and rule.decided(70, 70, 0.0) == ""
    assert rule.decided(9, 9, 0.94) == "yes", "what no flip survives needs only few others"
    fixed = Rule(0.95, 0.95, fixed=100)
    low, high = stats.binomtest(97, 100).proportion_ci(0.95, "exact")
    assert fixed.bounds(97, 100, 0.0) == pytest.approx((low, high), abs=1e-9)
    assert fixed.bounds(97, 100, 0.5) == pytest.approx((0.5 + low / 2, 0.5 + high / 2), abs=1e-9)


def test_stopping() -> None:
    rule = Rule(0.95, 0.95, None, 10, 200)
    assert not rule.over(9, 0, 9, 0.0) and rule.over(10, 0, 10, 0.0)
    assert not rule.over(71, 70, 71, 0.0) and rule.over(200, 190, 200, 0.0)
    fixed = Rule(0.95, 0.95, fixed=30)
    assert not fixed.over(29, 0, 29, 0.0) and fixed.over(30, 30, 30, 0.0)


@pytest.mark.parametrize(("truth", "floor"), [(0.93, 0.0), (0.95, 0.4), (0.9, 0.5)])
def test_decisions_at_any_time_are_wrong_no_more_often_than_they_say(truth: float, floor: float) -> None:
    """Bounds that are looked at after every trial ever miss the truth in 5% of the runs at most."""
    rng, wrong, runs = np.random.default_rng(0), 0, 400
    bounds = cache(Rule(0.95, 0.95, None, 1, 150).bounds)
    for _ in range(runs):
        struck = rng.random(150) >= floor
        fine = rng.random(150) < (truth - floor) / (1 - floor)
        for n in range(1, 151):
            s, k = int(struck[:n].sum()), int((struck & fine)[:n].sum())
            low, high = bounds(k, s, floor)
            if not low <= truth <= high:
                wrong += 1
                break
    assert wrong <= stats.binom.ppf(0.999, runs, 0.05)


def test_spread_and_tolerated() -> None:
    found = spread([0.9, 0.1, 0.5, 0.7])
    assert found is not None and spread([]) is None
    assert (found.median, found.p5, found.worst) == (0.6, 0.1, 0.1) and math.isclose(found.mean, 0.55)
    hundred = spread([i / 100 for i in range(100)])
    assert hundred is not None and hundred.p5 == 0.04
    assert tolerated([(1e-8, "yes"), (1e-7, "yes"), (1e-6, ""), (1e-5, "yes")]) == 1e-7
    assert tolerated([(1e-8, "no"), (1e-7, "yes")]) is None and tolerated([]) is None


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar(first: int, second: int) -> None:
    exact = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(exact, rel=1e-9)


def test_mcnemar_of_thousands_does_not_overflow() -> None:
    assert mcnemar(3000, 3000) == 1.0 and mcnemar(0, 2000) < 1e-300
