"""Number formats: what is exact, how the rest is rounded, and what each bit stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.errors import UsageError
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5, Fixed, encoding

ALL = (FP32, FP16, BF16, Q2_5, INT8, Fixed(4, 11), Fixed(1, 2))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("to", ALL, ids=lambda e: e.name)
def test_codes_survive_decoding_and_encoding(to: Fixed) -> None:
    codes = np.arange(2 ** min(to.bits, 16), dtype=to.encode(np.zeros(1)).dtype)
    values = to.decode(codes)
    usable = np.isfinite(values)
    assert np.array_equal(to.encode(values[usable]), codes[usable])


@given(exponent=st.integers(-149, 127), negative=st.booleans())
def test_single_precision_is_exact_for_powers_of_two_and_signed_zeros(exponent: int, negative: bool) -> None:
    values = np.array([2.0**exponent, 0.0], np.float32) * (-1 if negative else 1)
    read = FP32.decode(FP32.encode(values))
    assert np.array_equal(read.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(("to", "smallest", "largest"), [(FP16, -24, 15), (BF16, -133, 127)])
def test_powers_of_two_down_to_subnormals_are_exact(to: Fixed, smallest: int, largest: int) -> None:
    values = np.exp2(np.arange(smallest, largest + 1)).astype(np.float32)
    for signed in (values, -values, np.array([0.0, -0.0], np.float32)):
        assert np.array_equal(to.decode(to.encode(signed)).view(np.uint32), signed.view(np.uint32))


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_half_and_brain_floats_round_to_the_nearest(values: list[float]) -> None:
    held = np.array(values, np.float32)
    clipped = np.clip(held.astype(np.float64), -FP16.limit, FP16.limit)
    assert np.array_equal(FP16.decode(FP16.encode(held)), clipped.astype(np.float16).astype(np.float32))
    brain = BF16.decode(BF16.encode(held)).astype(np.float64)
    top = np.abs(held) > BF16.limit
    assert (np.abs(brain - held)[~top] <= np.abs(held.astype(np.float64))[~top] * 2.0**-8 + 2.0**-134).all()
    assert (np.abs(brain[top]) == BF16.limit).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 6), st.integers(1, 9))
def test_fixed_point_rounds_and_saturates(values: list[float], integer: int, fraction: int) -> None:
    to, step = Fixed(integer, fraction), 2.0**-fraction
    read = to.decode(to.encode(np.array(values))).astype(np.float64)
    wanted = np.clip(np.array(values), -(2.0**integer), to.limit)
    assert (np.abs(read - wanted) <= step / 2).all()


def test_what_has_no_place_in_fixed_point() -> None:
    assert Q2_5.decode(Q2_5.encode(np.array([np.nan, np.inf, -np.inf]))).tolist() == [0.0, Q2_5.limit, -4.0]


def test_nan_stays_nan_in_floats() -> None:
    for to in (FP32, FP16, BF16):
        read = to.decode(to.encode(np.array([np.nan, np.inf, -np.inf])))
        assert np.isnan(read[0]) and read[1:].tolist() == [np.inf, -np.inf]


def test_bits_by_what_they_stand_for() -> None:
    assert [FP16.part(b) for b in (0, 9, 10, 14, 15)] == ["mantissa", "mantissa", "exponent", "exponent", "sign"]
    assert [Q2_5.part(b) for b in (0, 4, 5, 6, 7)] == ["fraction", "fraction", "integer", "integer", "sign"]
    assert (FP32.limit, FP16.limit) == (float(np.finfo(np.float32).max), 65504.0)


def test_names() -> None:
    assert encoding(" BF16 ") == BF16 and encoding("q2.5") == Q2_5 and encoding("Q3.12") == Fixed(3, 12)
    for wrong in ("q0.0", "q20.20", "fp8", ""):
        with pytest.raises(UsageError, match="expected one of"):
            encoding(wrong)
