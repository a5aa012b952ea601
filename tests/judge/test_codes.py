from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.judge.binding import Binding
from fetafix.judge.codes import codes, one_code, steps
from fetafix.judge.metrics import errors
from fetafix.judge.noise import Floor, tolerance
from fetafix.report import ModelInfo

F32 = np.dtype(np.float32)
BOUND = [Binding("y", "z", "by order")]


def model(**scales: float) -> ModelInfo:
    told = {n: {"scale": s} for n, s in scales.items()}
    return ModelInfo(path="m", format="tflite", details={"quantised_outputs": told})


def test_the_coarser_step_counts_and_plain_outputs_have_none() -> None:
    plain = ModelInfo(path="m", format="onnx")
    assert steps(model(y=0.1), plain, BOUND) == {"y": 0.1} and steps(plain, model(z=0.2), BOUND) == {"y": 0.2}
    assert steps(model(y=0.1), model(z=0.2), BOUND) == {"y": 0.2}
    assert steps(plain, plain, BOUND) == {} and steps(model(other=1.0), plain, BOUND) == {}


def test_differences_as_codes() -> None:
    assert codes(0.3, 0.1) == pytest.approx(3.0) and codes(0.05, 0.1) == 0.5
    assert codes(None, 0.1) is None and codes(0.3, None) is None


@given(
    scale=st.floats(1e-6, 1e3), zero=st.integers(-128, 127),
    values=st.lists(st.integers(-127, 126), min_size=1, max_size=50),
    off=st.lists(st.integers(-1, 1), min_size=50, max_size=50),
)
def test_one_code_more_or_less_is_within_the_tolerance_and_two_are_not(
    scale: float, zero: int, values: list[int], off: list[int]
) -> None:
    held, moved = np.array(values, np.float32), np.array(off[: len(values)], np.float32)
    first, second = ((c - np.float32(zero)) * np.float32(scale) for c in (held, held + moved))
    step = float(np.float32(scale))
    found = errors(first, second)
    allowed = tolerance(Floor(), F32, found.scale, step=step, rms=found.rms)
    # where all values of the source are 0, a relative error says nothing, and none is small
    if found.rms:
        assert allowed.admits(found)
    two = second.copy()
    two[0] = first[0] + 2 * step
    far = errors(first, two)
    assert not tolerance(Floor(), F32, 0.0, step=step, rms=far.rms).admits(far)


def test_noise_of_codes_is_not_multiplied_as_that_of_floats_is() -> None:
    floor = Floor(0.04, 0.02)
    coded, plain = tolerance(floor, F32, 1.0, step=1 / 256, rms=0.5), tolerance(floor, F32, 1.0)
    assert coded.max_abs == pytest.approx(0.12) and plain.max_abs == pytest.approx(0.4)
    assert coded.max_abs is not None and coded.max_abs >= one_code(1 / 256)
