"""Prediction against what flips do: agrees where it should, is flagged where the weights are others, never by luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fetafix.storage import agreement
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5
from fetafix.storage.flips import flip, positions
from fetafix.storage.prediction import predict
from fetafix.storage.schemes import Plan, Stored, load, store, taken

RNG = np.random.default_rng(0)
W = (RNG.normal(0, 0.02, (40, 90))).astype(np.float32)
PLANS = [
    Plan(), Plan(FP32, "guard"), Plan(FP32, "guard", axis=0), Plan(FP16, "ceiling"), Plan(BF16), Plan(Q2_5),
    Plan(Q2_5, "scale", axis=0), Plan(INT8), Plan(FP32, "secded"),
]  # fmt: skip


def seen(weights: np.ndarray, plan: Plan, ber: float, trials: int) -> agreement.Seen:
    stored = store(weights, plan)
    clean, largest = load(stored), float(np.abs(load(stored)).max())
    found = agreement.Seen(trials)
    for seed in range(trials):
        codes = stored.codes.copy()
        where = positions(np.random.default_rng(seed), stored.bits, ber)
        flip(codes, where, plan.encoding.bits)
        once = np.bincount(where // plan.encoding.bits, minlength=codes.size) <= 1
        read = load(Stored(codes, stored.plan, stored.factors, stored.bounds))
        found += agreement.errors(read.ravel(), clean.ravel(), largest, once)
    return found


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.encoding.name} {p.scheme} {p.axis}")
def test_what_flips_do_is_what_is_predicted(plan: Plan) -> None:
    wanted = agreement.expected([(predict(W, plan), W.size)])
    for ber, trials in ((1e-4, 60), (1e-2, 4)):
        found = agreement.compare(wanted, seen(W, plan, ber, trials), ber)
        assert "single flips" not in found.why
        assert found.agrees or (plan.scheme == "secded" or ber == 1e-2)


@pytest.mark.parametrize("plan", [Plan(), Plan(FP32, "guard"), Plan(Q2_5, "scale")])
def test_other_weights_are_flagged(plan: Plan) -> None:
    """A guard that is as wide as other weights lets other errors pass; a float's wrecks depend on the values."""
    other = (W * np.float32(0.01)) if plan.encoding == Q2_5 or plan.scheme == "guard" else np.abs(W) * 0 + np.float32(3)
    wanted = agreement.expected([(predict(other, plan), W.size)])
    found = agreement.compare(wanted, seen(W, plan, 1e-3, 60), 1e-3)
    assert not found.agrees and "single flips not as predicted" in found.why


def test_crowded_flips_are_named_as_the_reason() -> None:
    plan = Plan(FP32, "secded")  # corrects every single flip: only double ones do harm
    wanted = agreement.expected([(predict(W, plan), W.size)])
    assert wanted.squares == wanted.wrecked == 0.0
    found = agreement.compare(wanted, seen(W, plan, 1e-2, 5), 1e-2)
    assert not found.agrees and "struck more than once" in found.why


@given(st.integers(0, 60), st.floats(0.01, 60))
def test_poisson_is_twice_the_smaller_tail(count: int, mean: float) -> None:
    exact = min(1.0, 2 * min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)))
    assert agreement.poisson(count, mean) == pytest.approx(exact, rel=1e-6, abs=1e-12)


@given(st.sampled_from([8, 16, 32]), st.floats(1e-8, 0.3))
def test_crowded(bits: int, ber: float) -> None:
    struck, once = 1 - stats.binom.pmf(0, bits, ber), stats.binom.pmf(1, bits, ber)
    assert agreement.crowded(bits, ber) == pytest.approx(1 - once / struck, abs=1e-6)


def test_some_values_of_a_tensor_read_as_they_do_within_it() -> None:
    for plan in PLANS:
        stored = store(W, plan)
        places = np.array([0, 7, 91, 3599])
        np.testing.assert_array_equal(load(taken(stored, places)), load(stored).reshape(-1)[places])
