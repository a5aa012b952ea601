from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.labels import labels
from fetafix.judge.tasks.scores import best, halves, sums_to_one, within_unit

SCORES = hnp.arrays(np.float64, (4, 6), elements=st.integers(-3, 3).map(float))


@given(SCORES, SCORES, st.sampled_from([0.0, 1.0]))
def test_ties_are_those_of_labels(s: np.ndarray, t: np.ndarray, tie: float) -> None:
    of_s, of_t = best(s, t, 1, tie)
    assert (of_s == of_t).tolist() == labels(s, t, tie).top1.tolist()
    assert of_s.tolist() == s.argmax(1).tolist()


def test_any_axis() -> None:
    s, t = (np.random.default_rng(k).normal(size=(2, 5, 3, 4)) for k in (0, 1))
    first, second = best(s, t, 1, 0.0), best(s.transpose(0, 2, 3, 1), t.transpose(0, 2, 3, 1), 3, 0.0)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_nan_is_never_the_best() -> None:
    s = np.array([[np.nan, 1.0, 2.0]])
    assert best(s, s, 1, 0.0)[0].tolist() == [2]


def test_halves_tie_only_where_both_do() -> None:
    s, t = np.array([0.5001, 0.5001, 0.9]), np.array([0.4999, 0.1, 0.1])
    assert [a.tolist() for a in halves(s, t, 0.5, 0.001)] == [[1, 1, 1], [1, 0, 0]]


def test_probabilities() -> None:
    rows = np.array([[0.2, 0.8], [1.0, 0.0]])
    assert sums_to_one(rows, 1) and not sums_to_one(rows, 0) and not sums_to_one(rows - 1, 1)
    assert within_unit(rows) and not within_unit(rows * 2) and not within_unit(np.ones(3))
    assert not sums_to_one(np.ones((2, 1)), 1) and not sums_to_one(rows.astype(int), 1)
