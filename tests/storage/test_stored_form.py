"""The stored form: exact where it has to be, bounded elsewhere, and no single flip of a constant that matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.errors import UsageError
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5, Fixed
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import Form, container, error_bound, formed, read, vote

ANY = hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
USUAL = hnp.arrays(np.float32, (3, 4), elements=st.floats(-30, 30, width=32))
W = np.random.default_rng(0).normal(0, 0.02, (8, 30)).astype(np.float32)
PLANS = [Plan(e, s, a, r) for e in (FP32, FP16, BF16, Q2_5, INT8, Fixed(1, 3), Fixed(2, 11), Fixed(0, 19))
         for s in ("scale", "guard", "ceiling") if e.floating or s != "ceiling"
         for a in (None, 0, 1) for r in ("max", "pow2", "mse") if r == "max" or (s == "scale" and not e.floating)]


@given(weights=ANY, axis=st.sampled_from([None, 0, 1]), scheme=st.sampled_from(["scale", "guard", "ceiling"]))
def test_single_precision_reads_back_bit_by_bit(weights: np.ndarray, axis: int | None, scheme: str) -> None:
    """Subnormals, signed zeros and the largest of all among them."""
    stored, form = formed(weights, Plan(FP32, scheme, axis))  # type: ignore[arg-type]
    assert np.array_equal(read(stored, form).view(np.uint32), weights.view(np.uint32))


@given(exponent=st.integers(-149, 126), negative=st.booleans(), scheme=st.sampled_from(["scale", "guard", "ceiling"]))
def test_powers_of_two_and_zeros_are_exact_whatever_else_there_is(exponent: int, negative: bool, scheme: str) -> None:
    weights = np.array([[2.0**exponent, 0.0, 2.0**-149, 3e38]], np.float32) * np.float32(-1 if negative else 1)
    stored, form = formed(weights, Plan(FP32, scheme))  # type: ignore[arg-type]
    assert np.array_equal(read(stored, form).view(np.uint32), weights.view(np.uint32))


@given(weights=USUAL, plan=st.sampled_from(PLANS))
def test_what_reads_is_within_its_bound(weights: np.ndarray, plan: Plan) -> None:
    stored, form = formed(weights, plan)
    off = np.abs(read(stored, form).astype(np.float64) - weights)
    assert (off <= error_bound(weights, stored, form)).all()


def test_bounds_are_not_idle() -> None:
    """Somewhere the error comes close to what is promised, or the promise would be worthless."""
    for plan in (Plan(INT8, "scale", 0), Plan(FP16, "guard"), Plan(BF16, "ceiling", 1), Plan(Q2_5, "scale")):
        stored, form = formed(W, plan)
        off = np.abs(read(stored, form).astype(np.float64) - W)
        assert (off > 0.7 * error_bound(W, stored, form)).any(), plan


@settings(max_examples=40)
@given(weights=USUAL, seed=st.integers(0, 999), axis=st.sampled_from([None, 0, 1]))
def test_a_guard_lets_nothing_out_of_range_through(weights: np.ndarray, seed: int, axis: int | None) -> None:
    rng = np.random.default_rng(seed)
    for encoding in (FP32, FP16, BF16):
        stored, form = formed(weights, Plan(encoding, "guard", axis))
        clean = np.abs(read(stored, form))
        raw = np.frombuffer(rng.bytes(stored.nbytes), stored.dtype).reshape(stored.shape)  # any bits whatever
        struck = np.abs(read(raw, form))
        others = None if axis is None else tuple(i for i in range(2) if i != axis)
        assert (struck <= clean.max(axis=others, keepdims=True)).all()


@given(weights=USUAL, seed=st.integers(0, 999))
def test_a_ceiling_lets_no_infinity_through(weights: np.ndarray, seed: int) -> None:
    stored, form = formed(weights, Plan(FP16, "ceiling"))
    raw = np.frombuffer(np.random.default_rng(seed).bytes(stored.nbytes), np.float16).reshape(stored.shape)
    assert np.isfinite(read(raw, form)).all()


@given(values=hnp.arrays(np.float32, 5, elements=st.floats(width=32, allow_nan=False)), which=st.integers(0, 2),
       bits=st.lists(st.integers(0, 159), min_size=1, max_size=160))
def test_whatever_strikes_one_copy_the_others_decide(values: np.ndarray, which: int, bits: list[int]) -> None:
    copies = np.stack([values] * 3)
    codes = copies.view(np.uint32)
    for bit in bits:
        codes[which, bit // 32] ^= np.uint32(1 << bit % 32)
    assert np.array_equal(vote(copies), values)


def test_formats_that_do_not_fill_a_byte_lie_in_its_upper_bits() -> None:
    stored, form = formed(W, Plan(Fixed(1, 3), "scale"))
    assert stored.dtype == np.int8 and not (stored & 7).any() and stored.any()
    struck = read(stored ^ np.int8(4), form)
    step = float(form.factor) * 8  # type: ignore[arg-type]
    assert 0 < np.abs(struck - read(stored, form)).max() < step


def test_floats_are_never_scaled_down() -> None:
    stored, form = formed(np.array([[1000.0, 1e-40]], np.float32), Plan(FP32, "scale"))
    assert form.factor is None and stored[0, 0] == 1000.0


def test_containers_and_refusals() -> None:
    assert [container(Fixed(m, n)).name for m, n in ((2, 5), (2, 6), (3, 12), (4, 13))] == [
        "int8", "int16", "int16", "int32"]
    with pytest.raises(UsageError, match="needs a decoder"):
        formed(W, Plan(FP32, "secded"))
    assert np.isnan(read(np.array([[np.nan]], np.float32), Form())).all()  # without a bound nothing is promised
