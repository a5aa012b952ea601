"""Confidence that holds however often one looks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fetafix.storage.survival import bounds, decided, trials_needed


@given(st.integers(1, 2000), st.data())
def test_bounds_hold_the_rate_seen(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = bounds(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    again = bounds(trials - successes, trials)
    if 0 < successes < trials:
        assert np.allclose(again, (1 - high, 1 - low), atol=1e-9)


def test_looking_after_every_trial_errs_no_more_often_than_promised() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for rate in (0.5, 0.9, 0.95, 1.0):
        for _ in range(50):
            seen = np.cumsum(rng.random(120) < rate)
            wrong += any(not low <= rate <= high for low, high in (bounds(int(k), n + 1) for n, k in enumerate(seen)))
    assert wrong / 200 <= 0.05


def test_decisions() -> None:
    assert decided(0, 0, 0.95) == ""
    needed = trials_needed(0.95)
    assert decided(needed, needed, 0.95) == "yes" and decided(needed - 1, needed - 1, 0.95) == ""
    assert 59 < needed < 80
    assert decided(3, 10, 0.95) == "no"
    assert decided(90_000, 100_000, 0.95) == "no"  # far beyond where the weights underflow
