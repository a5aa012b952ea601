from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.judge.noise import EPS, Floor, Noise, measure, one_ulp, softmax_gain, tolerance

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(4, 10)).astype(np.float32)
F32 = np.dtype(np.float32)


def test_one_ulp_moves_floats_a_little_and_nothing_else() -> None:
    feeds = {"x": RNG.normal(size=(3, 50)).astype(np.float32), "ids": np.arange(5), "zero": np.zeros(3, np.float32)}
    moved = one_ulp(feeds, seed=1)
    assert (moved["x"] != feeds["x"]).all() and moved["x"].dtype == np.float32
    assert np.abs(moved["x"] / feeds["x"] - 1).max() < 3 * EPS
    assert np.array_equal(moved["ids"], feeds["ids"]) and np.array_equal(moved["zero"], feeds["zero"])
    assert np.array_equal(one_ulp(feeds, seed=1)["x"], moved["x"])
    assert not np.array_equal(one_ulp(feeds, seed=2)["x"], moved["x"])


def test_one_ulp_of_half_floats_and_of_half_arithmetic() -> None:
    x = RNG.uniform(0.5, 2, 100).astype(np.float16)
    assert (one_ulp({"x": x}, 0)["x"] != x).all()
    assert (one_ulp({"x": x.astype(np.float32)}, 0, eps=2**-10)["x"].astype(np.float16) != x).all()


def test_one_ulp_keeps_infinities() -> None:
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    assert np.array_equal(one_ulp({"x": x}, 0)["x"], x, equal_nan=True)


def test_floor_is_the_largest_harmless_change() -> None:
    changed = {"ulp": Y + 1e-6, "runtime": Y - 3e-6, "repeat": Y, "batch": Y}
    noise = measure({"y": Y}, {kind: {"y": value} for kind, value in changed.items()})
    assert noise.floor("y").max_abs == pytest.approx(3e-6, rel=0.2)
    assert set(noise.floor("y").changes) == {"ulp", "runtime", "repeat", "batch"}
    assert noise.batch_dependence is None and noise.run_variation is None
    assert noise.floor("unknown") == Floor()


def test_batch_dependence_is_a_fact_not_a_tolerance() -> None:
    noise = measure({"y": Y}, {"ulp": {"y": Y + 1e-7}, "repeat": {"y": Y}, "batch": {"y": Y[::-1]}})
    assert noise.batch_dependence is not None and noise.batch_dependence > 0.5
    assert noise.run_variation is None
    assert noise.floor("y").max_abs < 1e-6


def test_run_variation_explains_the_batch_too() -> None:
    noise = measure({"y": Y}, {"repeat": {"y": Y * 1.5}, "batch": {"y": Y * 2}})  # a live dropout
    assert noise.run_variation == pytest.approx(0.5)
    assert noise.batch_dependence is None
    assert noise.floor("y").max_abs == 0.0


def test_a_random_model_does_not_hide_behind_its_own_noise() -> None:
    others = {kind: {"y": RNG.normal(size=Y.shape)} for kind in ("ulp", "runtime", "repeat", "batch")}
    noise = measure({"y": Y}, others)
    assert noise.run_variation is not None and noise.floor("y").max_abs == 0.0


def test_both_where_peers_matter_far_more_than_chance() -> None:
    noise = measure({"y": Y}, {"repeat": {"y": Y * 1.002}, "batch": {"y": Y[::-1]}})  # training_mode in ORT
    assert noise.run_variation == pytest.approx(0.002, rel=0.1)
    assert noise.batch_dependence is not None


def test_small_batch_effects_are_noise() -> None:
    noise = measure({"y": Y}, {"ulp": {"y": Y + 1e-6}, "batch": {"y": Y + 2e-6}})
    assert noise.batch_dependence is None
    assert noise.floor("y").max_abs > 1e-6


def test_changes_of_shape_and_finiteness_count_fully() -> None:
    broken = Y.copy()
    broken[0, 0] = np.nan
    assert measure({"y": Y}, {"repeat": {"y": broken}}).run_variation == np.inf
    assert measure({"y": Y}, {"batch": {"y": Y[:2]}}).batch_dependence == np.inf


def test_nothing_measured() -> None:
    assert measure({"y": Y}, {}) == Noise({"y": Floor()})


@given(st.floats(0, 1e-3), st.floats(0, 1e3))
def test_tolerance_rule(floor: float, scale: float) -> None:
    found = tolerance(Floor(floor, floor), F32, scale)
    assert found.max_abs == max(10 * floor, 128 * EPS * scale)
    assert found.rel_l2 == max(10 * floor, 128 * EPS)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.uint8, 1.0), (np.int8, 1.0), (np.int64, 0.0), (np.bool_, 0.0), (np.float64, 128 * EPS), (np.float16, 2**-7)],
)
def test_tolerance_by_dtype(dtype: type, expected: float) -> None:
    assert tolerance(Floor(), np.dtype(dtype), 1.0).max_abs == pytest.approx(expected)


def test_tolerance_lets_half_precision_inside_count() -> None:
    assert tolerance(Floor(), F32, 1.0, eps=2**-10).max_abs == 2**-7


def test_tolerance_still_sees_weights_rounded_to_half_floats() -> None:
    """The smallest fault of the catalogue that must be seen, wb-precision in float16, moves outputs by 1.7e-4."""
    assert (tolerance(Floor(1e-6, 1e-6), F32, 1.0).rel_l2 or 0) < 1e-4


@given(st.integers(0, 200), st.floats(0.1, 12.0))
def test_probabilities_are_judged_as_their_scores_would_be(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    scores = spread * rng.normal(size=(4, 50))
    scores -= scores.mean(1, keepdims=True)
    error = 100 * np.finfo(np.float32).eps * np.abs(scores).max()
    moved = scores + error * rng.uniform(-1, 1, scores.shape)

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True)).astype(np.float32)

    a, b = softmax(scores), softmax(moved)
    allowed = tolerance(Floor(), a.dtype, float(a.max()), gain=softmax_gain(a)).max_abs
    assert allowed is not None
    assert np.abs(a - b).max() <= 2 * allowed
    assert allowed <= 2 * 128 * np.finfo(np.float32).eps * max(1.0, np.abs(scores).max()) * a.max()


def test_what_is_no_probability_has_no_gain() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert softmax_gain(values) == softmax_gain(np.abs(values)) == 1.0
    assert softmax_gain(np.full((3, 4), 0.25, np.float32)) == 1.0
    assert softmax_gain(np.array([[1.0, 0.0]], np.float32)) > 10
    assert softmax_gain(np.eye(3, dtype=np.int64)) == 1.0


def test_a_target_is_asked_to_be_no_steadier_than_its_source() -> None:
    own = Noise({"a": Floor(1e-3, 1e-4)})
    moved = Noise({"A": Floor(0.0, 0.0, {"batch": (5e-3, 5e-4)})}, batch_dependence=5e-4)
    assert moved.beside(own, {"A": "a"}).batch_dependence is None
    assert moved.beside(Noise({"a": Floor(1e-5, 1e-6)}), {"A": "a"}).batch_dependence == 5e-4
    assert moved.beside(Noise(), {"A": "a"}).batch_dependence == 5e-4
