from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.labels import Labels, class_scores, kendall_tau, labels

SCORES = hnp.arrays(np.float64, (3, 9), elements=st.integers(-4, 4).map(float))


def test_counts_by_hand() -> None:
    s = np.eye(10)[[0, 1, 2, 3]]
    t = s.copy()
    t[3] = np.linspace(0, 1, 10)  # label 9; label 3 is ranked seventh
    found = labels(s, t)
    assert found.top1.tolist() == [True, True, True, False]
    assert found.top5.tolist() == [True, True, True, False]
    assert found.mismatches == 1


def test_top5_takes_the_source_label() -> None:
    s, t = np.zeros((1, 10)), np.linspace(0, 1, 10)[None]
    s[0, 6] = 1
    found = labels(s, t)
    assert not found.top1[0] and found.top5[0]


def test_exact_ties_agree_only_both_ways() -> None:
    tie = np.array([[1.0, 1.0, 0.0]])
    assert labels(tie, np.array([[1.0, 1.0, 0.0]])[:, ::-1][:, [1, 2, 0]]).top1[0]
    assert labels(tie, tie[:, [1, 0, 2]]).top1[0]
    assert not labels(tie, np.array([[0.9, 1.0, 0.0]])).top1[0]
    assert not labels(np.array([[0.0, 1.0, 0.5]]), np.ones((1, 3))).top1[0], "a dead model agrees with nobody"
    assert not labels(np.array([[0.0] * 9 + [1.0]]), np.ones((1, 10))).top5[0]


def test_ties_within_the_noise_floor() -> None:
    s, t = np.array([[1.0, 1.0 - 1e-7, 0.0]]), np.array([[1.0 - 1e-7, 1.0, 0.0]])
    assert not labels(s, t).top1[0]
    assert labels(s, t, tie=2e-7).top1[0]


@given(SCORES)
def test_identical_scores_always_agree(s: np.ndarray) -> None:
    found = labels(s, s)
    assert found.top1.all() and found.top5.all()
    assert found.tau == pytest.approx(np.ones(3))


@given(SCORES, SCORES)
def test_tau_against_scipy(s: np.ndarray, t: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    for i, ours in enumerate(kendall_tau(s, t)):
        theirs = stats.kendalltau(s[i], t[i]).statistic
        if np.isnan(theirs):
            assert ours in (0.0, 1.0)
        else:
            assert ours == pytest.approx(theirs)


@given(SCORES, SCORES)
def test_tau_is_symmetric_and_bounded(s: np.ndarray, t: np.ndarray) -> None:
    assert kendall_tau(s, t) == pytest.approx(kendall_tau(t, s))
    assert (np.abs(kendall_tau(s, t)) <= 1 + 1e-12).all()


def test_disjoint_favourites_are_no_agreement() -> None:
    """Label ids in ascending order on both sides would look like tau 1; scores tell."""
    s, t = np.zeros((1, 1000)), np.zeros((1, 1000))
    s[0, :20], t[0, 20:40] = np.arange(20, 0, -1), np.arange(20, 0, -1)
    assert kendall_tau(s, t)[0] < -0.5


def test_tau_ignores_the_tail_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    s = rng.normal(size=(2, 1000)) * 1e-6
    t = rng.normal(size=(2, 1000)) * 1e-6
    s[:, :20] = t[:, :20] = rng.normal(size=(2, 20)) ** 2 + 1
    assert kendall_tau(s, t) == pytest.approx(1.0)


def test_softmax_changes_no_rank() -> None:
    s = np.random.default_rng(1).normal(size=(4, 12))
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    assert labels(s, p).top1.all()
    assert kendall_tau(s, p) == pytest.approx(1.0)


def test_nan_disagrees_with_numbers_only() -> None:
    s = np.array([[1.0, 0.0], [np.nan, 0.0]])
    assert not labels(s[:1], np.full((1, 2), np.nan)).top1[0]
    assert labels(s, s).top1.tolist() == [True, True]
    assert labels(s, s).mean_tau == 1.0


def test_other_class_counts() -> None:
    s = np.eye(5)[[0, 4]]
    shifted = np.concatenate([np.zeros((2, 1)), s], 1)
    assert labels(s, shifted).top1.tolist() == [False, False]
    assert labels(shifted, s).top1.tolist() == [False, False]


def test_infinite_scores() -> None:
    s = np.array([[np.inf, -np.inf, 0.0]])
    assert labels(s, s).top1[0] and kendall_tau(s, s)[0] == 1.0


def test_chunks_join() -> None:
    s = np.random.default_rng(2).normal(size=(6, 7))
    t = s + np.random.default_rng(3).normal(size=(6, 7))
    whole, parts = labels(s, t), Labels() + labels(s[:2], t[:2]) + labels(s[2:], t[2:])
    assert parts.top1.tolist() == whole.top1.tolist()
    assert parts.mean_tau == pytest.approx(whole.mean_tau)
    assert (parts.n, parts.classes) == (6, 7)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((2, 10), (2, 10)), ((2, 10, 1, 1), (2, 10)), ((2, 1, 1, 10), (2, 10)), ((2, 1), None), ((10,), None),
     ((2, 4420, 4), None), ((2, 3, 8, 8), None)],
)
def test_class_shapes(shape: tuple[int, ...], fits: tuple[int, ...] | None) -> None:
    found = class_scores(np.zeros(shape, np.float32))
    assert (found is None) if fits is None else (found is not None and found.shape == fits)
