from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.tasks.embedding import Embedding, neighbours, spearman
from tests.judge.tasks.support import agree, claimed, figures, seen

EMB = Embedding()
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(12, 16))
ROWS = hnp.arrays(np.float64, 8, elements=st.integers(-5, 5).map(float))
POINTS = hnp.arrays(np.float64, (6, 5), elements=st.integers(-4, 4).map(float))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


@given(ROWS, ROWS)
def test_spearman_against_scipy(a: np.ndarray, b: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(a, b) == pytest.approx(spearman(b, a))


def test_spearman_of_constants() -> None:
    flat, varied = np.ones(4), np.arange(4.0)
    assert spearman(flat, flat * 2) == 1.0 and spearman(flat, varied) == 0.0
    assert spearman(varied, varied ** 3) == 1.0 and spearman(varied, -varied) == -1.0


@given(POINTS)
def test_equal_vectors_have_equal_neighbours(points: np.ndarray) -> None:
    loss, rho = neighbours(unit(points), unit(points))
    assert (loss == 0.0).all() and rho == pytest.approx(np.ones(6))
    assert agree(EMB, points, points) == [True] * 6


@given(POINTS, POINTS)
def test_neighbours_are_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    there, back = neighbours(unit(a), unit(b)), neighbours(unit(b), unit(a))
    assert there[0] == pytest.approx(back[0]) and there[1] == pytest.approx(back[1]) and (there[0] >= -1e-12).all()


def test_another_order_of_the_samples_changes_nothing() -> None:
    order = RNG.permutation(12)
    target = VECTORS + RNG.normal(size=VECTORS.shape) * 0.3
    assert figures(EMB, VECTORS, target) == pytest.approx(figures(EMB, VECTORS[order], target[order]))


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_further_turn_is_less_alike(near: float, more: float) -> None:
    other = np.random.default_rng(1).normal(size=VECTORS.shape)
    likes = [EMB.likeness(seen(EMB, VECTORS, VECTORS + s * other)) for s in (near, near + more)]
    assert likes[0] >= likes[1] - 1e-3


def test_drift_is_tolerated_and_a_turn_is_not() -> None:
    drift = VECTORS * 1.01 + RNG.normal(size=VECTORS.shape) * 0.01
    turned = VECTORS.copy()
    turned[3] = turned[3, ::-1]
    assert agree(EMB, VECTORS, drift) == [True] * 12
    assert agree(EMB, VECTORS, turned)[3] is False
    assert 0.98 < figures(EMB, VECTORS, drift)["spearman"] < 1.0 and figures(EMB, VECTORS, drift)["neighbours"] == 1.0


def test_a_lost_normalisation_is_seen_by_length_alone() -> None:
    found = figures(EMB, unit(VECTORS), VECTORS)
    assert found["cosine"] == pytest.approx(1.0) and found["length"] > 1.0
    assert not any(agree(EMB, unit(VECTORS), VECTORS))


def test_other_neighbours_are_seen_where_directions_hardly_differ() -> None:
    """Vectors that all point nearly one way, as without centring: cosines stay near 1, neighbours do not."""
    common = np.eye(16)[0] * 30
    source, target = unit(common + VECTORS), unit(common + VECTORS[::-1])
    close = EMB.agree(seen(EMB, source, target), {**EMB.limits, "cosine": 0.9, "neighbour": 1e-4})
    assert figures(EMB, source, target)["worst_cosine"] > 0.9 and not close.all()


def test_zeros_and_nans() -> None:
    flat, broken = VECTORS.copy(), VECTORS.copy()
    flat[2], broken[5, 0] = 0.0, np.nan
    assert agree(EMB, flat, flat) == [True] * 12
    assert agree(EMB, VECTORS, flat)[2] is False and agree(EMB, VECTORS, broken)[5] is False


def test_nothing_is_final_but_a_turn_is_lost() -> None:
    noted = seen(EMB, VECTORS, -VECTORS)
    assert not EMB.final(noted, EMB.limits) and EMB.lost(noted, EMB.limits).all()


@pytest.mark.parametrize(("name", "values", "sure"), [
    ("y", unit(VECTORS), ["yes"]), ("embedding", VECTORS, ["yes"]), ("features", VECTORS[:, :, None, None], ["yes"]),
    ("y", np.maximum(VECTORS, 0), ["maybe"]), ("y", VECTORS, []), ("logits", VECTORS, []), ("hidden", VECTORS, []),
    ("embedding", VECTORS[:, :4], []), ("embedding", VECTORS.astype(int), []), ("embedding", VECTORS[None], []),
])
def test_what_it_takes_for_an_embedding(name: str, values: np.ndarray, sure: list[str]) -> None:
    assert claimed(EMB, **{name: values}) == sure
