"""Targeted probes: within the range where they say so, in the inputs' dtypes, steering inputs as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.inputs import targeted
from fetafix.inputs.targeted import KINDS, Space

RNG = np.random.default_rng(2)


def test_the_range_is_that_of_the_samples() -> None:
    space = Space.of({"x": np.array([[1.0, -2.0], [np.nan, 3.0]]), "ids": np.array([[3, 7], [1, 0]]),
                      "attention_mask": np.array([[1, 0], [1, 1]])})
    assert (space.low["x"], space.high["x"], space.low["ids"], space.high["ids"]) == (-2.0, 3.0, 0.0, 7.0)
    assert space.free == ["x", "ids"]
    assert space.holds({"x": np.array([3.0, -2.0]), "ids": np.array([0]), "attention_mask": np.array([9])})
    assert not space.holds({"x": np.array([3.1]), "ids": np.array([0]), "attention_mask": np.array([1])})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.1, 50),
       st.sampled_from([(), (1,), (7,), (1, 5), (3, 4, 4), (1, 512)]))
def test_probes_keep_to_the_range(seed: int, low: float, span: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    samples = {"x": rng.uniform(low, low + span, (3, *shape)).astype(np.float32)}
    space = Space.of(samples)
    for probe in targeted.probes(samples, space, 26):
        assert probe.feeds["x"].shape == shape and probe.feeds["x"].dtype == np.float32
        assert np.isfinite(probe.feeds["x"]).all()
        assert probe.inside == space.holds(probe.feeds)
        assert probe.inside or probe.what in dict(targeted.OUTSIDE)


def test_every_kind_comes_once_before_any_comes_again() -> None:
    samples = {"x": RNG.normal(size=(4, 3, 6, 6)).astype(np.float32)}
    made = targeted.probes(samples, Space.of(samples), 39)
    names = [p.what for p in made[: len(KINDS) + len(targeted.OUTSIDE)]]
    assert len(set(names)) == len(names) == 13 and len(made) == 39
    by_name = {p.what: p for p in made[:13]}
    assert np.ptp(by_name["gray"].feeds["x"]) == 0 and by_name["negative values only"].feeds["x"].max() <= 0
    assert len(np.unique(by_name["few distinct values (ties)"].feeds["x"])) <= 9
    assert not by_name["four times as large"].inside


def test_identifiers_stay_identifiers_and_masks_stay() -> None:
    ids = RNG.integers(0, 20, (3, 8))
    samples = {"ids": ids, "attention_mask": np.tril(np.ones((3, 8), np.int64))}
    space = Space.of(samples)
    for probe in targeted.probes(samples, space, 20):
        value = probe.feeds["ids"]
        assert value.dtype == ids.dtype and ids.min() <= value.min() and value.max() <= ids.max()
        assert any(np.array_equal(probe.feeds["attention_mask"], m) for m in samples["attention_mask"])


def test_nothing_to_try_where_no_input_may_change() -> None:
    samples = {"mask": np.ones((2, 4), np.float32), "x": np.zeros((2, 3), np.float32)}
    assert targeted.probes(samples, Space.of(samples), 10) == []


@pytest.mark.parametrize("size", [1, 4, 8, 33])
def test_other_sizes_have_the_other_parity_and_a_greater_length(size: int) -> None:
    first, *more = targeted.sizes(size)
    assert first % 2 != size % 2 and max(first, *more, 0) >= 2 * size


def test_longer_inputs_go_on_with_other_samples() -> None:
    samples = {"x": np.arange(24, dtype=np.float32).reshape(3, 4, 2), "position_ids": np.tile(np.arange(4), (3, 1)),
               "fixed": np.ones((3, 5), np.float32)}
    made = targeted.resized(samples, {"x": (0,), "position_ids": (0,)}, 3)
    assert made["x"].shape == (3, 7, 2) and made["fixed"] is samples["fixed"]
    assert np.array_equal(made["x"][0, :4], samples["x"][0]) and np.array_equal(made["x"][0, 4:], samples["x"][1, :3])
    assert made["position_ids"].tolist() == [list(range(7))] * 3
