"""A lift is measured against its own artifact: rounding is no difference, a wrong layer is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.lift_check import code_of, differs

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(4, 10)).astype(np.float32)
OUTPUTS = {"y": {"dtype": "int8", "scale": 0.05, "zero_point": 3}}
CODED: dict[str, Any] = {"quantised": True, "quantised_outputs": OUTPUTS}
HYBRID: dict[str, Any] = {"quantised": True, "dtypes": {"int8": 4, "float32": 5}}


def test_floats_agree_up_to_rounding() -> None:
    assert differs("y", Y * np.float32(1 + 1e-5), Y, {}) == ""
    assert "relative error 0.01" in differs("y", Y * np.float32(1.01), Y, {})


@pytest.mark.parametrize(("dtype", "most"), [("float16", 7.8e-3), ("bfloat16", 6.2e-2)])
def test_half_precision_rounds_more(dtype: str, most: float) -> None:
    details = {"dtypes": {dtype: 9, "float32": 1}}
    assert differs("y", Y * np.float32(1 + 0.9 * most), Y, details) == ""
    assert differs("y", Y * np.float32(1 + 1.2 * most), Y, details) != ""


def test_missing_and_misshapen_outputs_are_told() -> None:
    assert "no such output" in differs("y", Y, None, {})
    assert "shape [4, 10], the model's is [4, 5]" in differs("y", Y, Y[:, :5], {})
    assert differs("y", Y.reshape(4, 10, 1), Y, {}) == ""


@given(st.integers(0, 20), st.integers(0, 100))
def test_flipped_codes_are_rounding(flips: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved = Y.copy()
    places = rng.choice(Y.size, flips, replace=False)
    moved.reshape(-1)[places] += rng.choice([-1, 1], flips).astype(np.float32) * np.float32(0.05)
    assert differs("y", moved, Y, CODED) == ""


@pytest.mark.parametrize("details", [CODED, HYBRID])
def test_a_wrong_layer_moves_everything_by_codes(details: dict[str, Any]) -> None:
    assert "codes" in differs("y", Y[:, ::-1].copy(), Y, details)
    assert "codes" in differs("y", Y * np.float32(1.3), Y, details)


def test_dynamic_range_has_the_codes_of_its_output_range() -> None:
    code = code_of("y", Y, HYBRID)
    assert code == pytest.approx(float(np.ptp(Y)) / 255)
    assert differs("y", Y + np.float32(0.9 * code), Y, HYBRID) == ""
    assert differs("y", Y + np.float32(1.1 * code), Y, HYBRID) != ""
    assert code_of("y", Y, {"dtypes": {"float32": 3}}) is None


def test_what_is_not_finite_has_to_be_so_in_both() -> None:
    own = Y.copy()
    own[0, 0] = np.inf
    assert differs("y", own.copy(), own, {}) == ""
    assert differs("y", Y, own, {}) != "" and differs("y", Y, own, CODED) != ""


def test_a_model_that_answers_sensitively_may_be_off_by_what_flips_do_to_it() -> None:
    code = np.float32(0.05)
    for codes, fits in ((4, True), (8, False)):
        lifted = Y + codes * code
        assert "codes" in differs("y", lifted, Y, CODED)
        assert (differs("y", lifted, Y, CODED, lambda at=lifted: {"y": at + 2 * code}) == "") is fits
    assert "relative error" in differs("y", Y + code, Y, {}, lambda: {"y": Y + 3 * code})


def test_a_deep_network_may_make_more_of_its_rounding_and_is_measured() -> None:
    native = np.linspace(1, 2, 10, dtype=np.float32)
    lifted = native * np.float32(1.003)
    assert differs("y", lifted, native, {}, rounded=lambda: {"y": lifted * np.float32(1.001)}) == ""
    assert "relative error" in differs("y", lifted, native, {}, rounded=lambda: {"y": lifted * np.float32(1.0001)})
    assert "relative error" in differs("y", lifted, native, {})
