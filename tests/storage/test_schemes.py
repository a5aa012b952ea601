"""Protections: what they keep, what they bound, and what is predicted of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.errors import UsageError
from fetafix.storage.constants import constants
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5
from fetafix.storage.flips import flip, positions
from fetafix.storage.prediction import predict
from fetafix.storage.schemes import Plan, Stored, load, store

W = np.random.default_rng(0).normal(0, 0.02, (40, 250)).astype(np.float32)
HEAVY = W * np.geomspace(0.05, 20, 40).astype(np.float32)[:, None]
SMALL = hnp.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32))


def struck(stored: Stored, ber: float, seed: int = 0) -> Stored:
    codes = stored.codes.copy()
    flip(codes, positions(np.random.default_rng(seed), stored.bits, ber), stored.plan.encoding.bits)
    return Stored(codes, stored.plan, stored.factors, stored.bounds)


@pytest.mark.parametrize("plan", [Plan(), Plan(scheme="scale"), Plan(scheme="scale", axis=0), Plan(scheme="ceiling"),
                                  Plan(scheme="guard"), Plan(scheme="guard", axis=0)])
@given(weights=SMALL)
def test_float32_reads_back_exactly(plan: Plan, weights: np.ndarray) -> None:
    weights = np.where(np.abs(weights) < 1e-30, np.float32(0), weights)  # scaled subnormals lose bits
    stored = store(weights, plan)
    assert stored.lossless
    assert np.array_equal(load(stored), weights)


@given(weights=SMALL, seed=st.integers(0, 999), axis=st.sampled_from([None, 0, 1]))
def test_a_guard_bounds_what_any_flips_do(weights: np.ndarray, seed: int, axis: int | None) -> None:
    for encoding in (FP32, FP16, BF16):
        stored = store(weights, Plan(encoding, "guard", axis=axis))
        read, clean = load(struck(stored, 0.2, seed)), load(stored)
        others = None if axis is None else tuple(i for i in range(2) if i != axis)
        assert np.isfinite(read).all()
        assert (np.abs(read) <= np.abs(clean).max(axis=others, keepdims=True)).all()


def test_scaling_fills_the_format_and_divides_errors() -> None:
    stored = store(W, Plan(Q2_5, "scale"))
    assert np.abs(Q2_5.decode(stored.codes)).max() == pytest.approx(Q2_5.limit, abs=2**-5)
    plain, scaled = predict(W, Plan(Q2_5)), predict(W, Plan(Q2_5, "scale"))
    assert plain.rms / scaled.rms == pytest.approx(float(stored.factors), rel=0.02)
    assert scaled.rounding < plain.rounding / 20


def test_a_constant_a_channel_serves_heavy_tails() -> None:
    whole, channels = (predict(HEAVY, Plan(Q2_5, "scale", axis=a)) for a in (None, 0))
    assert channels.expected_rms(1e-3) < whole.expected_rms(1e-3) / 2


def test_ceiling_makes_flips_shrink_or_clip() -> None:
    stored = store(W, Plan(FP16, "ceiling"))
    assert float(stored.factors) == 2.0 ** (15 - int(np.floor(np.log2(np.abs(W).max()))))
    assert predict(W, Plan(FP16, "ceiling")).rms < 1e-3 * predict(W, Plan(FP16)).rms


def test_predicted_errors_are_those_of_the_literature() -> None:
    assert predict(W, Plan()).wrecked == pytest.approx(0.056, abs=0.01)
    assert predict(W, Plan(scheme="scale")).wrecked == pytest.approx(1 / 32, abs=0.002)
    assert predict(W, Plan(Q2_5)).rms == pytest.approx(1.63, abs=0.01)
    assert predict(W, Plan(scheme="guard")).wrecked == 0.0
    assert predict(W, Plan(scheme="secded")).rms == 0.0


@pytest.mark.parametrize("plan", [Plan(Q2_5, "scale"), Plan(FP16, "guard"), Plan(INT8, axis=0), Plan(FP32, "guard")])
def test_prediction_agrees_with_measurement(plan: Plan) -> None:
    stored, ber = store(W, plan), 2e-4
    clean = load(stored).astype(np.float64)
    squares = [np.mean((load(struck(stored, ber, seed)) - clean) ** 2) for seed in range(150)]
    predicted = predict(W, plan)
    wanted = predicted.expected_rms(ber) ** 2 - predicted.rounding**2
    spread = float(np.std(squares)) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - wanted) < 5 * spread


def test_constants_for_a_rate_clip_the_more_the_higher_it_is() -> None:
    largest = float(constants(W, Q2_5, "max"))
    found = [float(constants(W, Q2_5, "mse", ber=b)) for b in (1e-6, 1e-4, 1e-3, 1e-2)]
    assert [*found] == sorted(found) and found[0] >= largest and found[-1] > 1.5 * found[0]


def test_constants_of_nothing_and_of_powers() -> None:
    assert constants(np.zeros((2, 3), np.float32), Q2_5, "max", axis=0).tolist() == [1.0, 1.0]
    assert np.log2(constants(HEAVY, Q2_5, "pow2", axis=0)) % 1 == pytest.approx(0)


def test_combinations_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="mantissa"):
        Plan(Q2_5, "secded")
    with pytest.raises(UsageError, match="exponent"):
        Plan(Q2_5, "ceiling")
