"""The search given two functions alone: probes, the way to a boundary, evolution within the range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fetafix import boundary
from fetafix.boundary import Allowance, Budget, Candidate, Search
from fetafix.inputs import targeted
from fetafix.inputs.targeted import Probe, Space
from fetafix.ir import Array

RNG = np.random.default_rng(5)
SAMPLES = {"x": RNG.normal(size=(12, 3, 6, 6)).astype(np.float32)}
ALLOWED = {"y": Allowance(1e-5, 1e-5, 1.0)}
Function = Callable[[Array], Array]


def hunt(ours: Function, theirs: Function, head: str = "", samples: dict[str, Array] | None = None) -> Search:
    samples = samples or SAMPLES

    def run(feeds: boundary.Feeds) -> boundary.Scores:
        return boundary.scores({"y": ours(feeds["x"])}, {"y": theirs(feeds["x"])}, ALLOWED, head)

    return Search(run, samples, Space.of(samples), np.random.default_rng(0))


def mean(x: Array) -> Array:
    return np.stack([x.mean((1, 2, 3)), x[:, 0].max((1, 2))], 1)


def look(search: Search, probes: int = 13, **more: int) -> list[Candidate]:
    return search.all(targeted.probes(SAMPLES, search.space, probes), Budget(probes=probes, **more))


def test_models_that_agree_show_nothing() -> None:
    noise = np.float32(1 + 1e-6)
    search = hunt(mean, lambda x: mean(x) * noise, "y")
    assert look(search, pairs=4, steps=3, generations=3, children=8) == []
    assert search.tried > 40


@pytest.mark.parametrize("change", [
    lambda x: np.where(x.min((1, 2, 3)) > 3.0, 1.0, 0.0), lambda x: np.where(np.ptp(x, (1, 2, 3)) == 0, 1.0, 0.0),
    lambda x: np.where(x.max((1, 2, 3)) <= 0, 1.0, 0.0), lambda x: np.where(x.mean((1, 2, 3)) > 0.8, 1.0, 0.0),
], ids=["large", "constant", "negative", "amplified"])
def test_targeted_probes_show_what_no_sample_does(change: Function) -> None:
    search = hunt(mean, lambda x: mean(x) + change(x)[:, None])
    assert boundary.scores({"y": mean(SAMPLES["x"])}, {"y": mean(SAMPLES["x"]) + change(SAMPLES["x"])[:, None]},
                           ALLOWED).excess.max() == 0
    found = look(search)
    assert found and found[0].probe.inside and found[0].largest == pytest.approx(1.0, rel=1e-4)


def test_the_boundary_between_labels_is_halved() -> None:
    """The target differs only where the two scores are almost equal: between samples of different labels."""
    def scores(x: Array) -> Array:
        s = x[:, :1].mean((1, 2, 3))
        return np.stack([s, -s], 1)

    def close(x: Array) -> Array:
        s = scores(x)
        return s + 0.1 * (np.abs(s[:, :1]) < 0.004)

    assert np.abs(scores(SAMPLES["x"])[:, 0]).min() > 0.004
    search = hunt(scores, close, "y")
    found = search.all([], Budget(probes=0, pairs=6, steps=6))
    assert found and "boundary" in found[0].probe.what
    assert not hunt(scores, close, "y").all([], Budget(probes=0, pairs=6, steps=1))


def test_evolution_climbs_where_probes_do_not_reach() -> None:
    """A bound on a weighted sum that only a pattern in the range reaches, which no probe has."""
    pattern = np.random.default_rng(9).normal(size=(3, 6, 6))

    def total(x: Array) -> Array:
        return (x * pattern).sum((1, 2, 3))[:, None]

    limit = 2.0 * float(np.abs(total(SAMPLES["x"])).max())
    search = hunt(total, lambda x: np.minimum(total(x), limit))
    assert [c for c in look(search) if c.probe.inside] == []
    found = hunt(total, lambda x: np.minimum(total(x), limit))
    found = look(found, generations=25, children=16)
    assert found and found[0].probe.inside and Space.of(SAMPLES).holds(found[0].probe.feeds)


def test_the_same_seed_finds_the_same() -> None:
    def other(x: Array) -> Array:
        return mean(x) + (x.max((1, 2, 3)) > 2.9)[:, None] * 0.1

    first, second = (look(hunt(mean, other, "y"), pairs=2, steps=2, generations=2, children=4) for _ in range(2))
    assert [c.excess for c in first] == [c.excess for c in second] and first
    assert all(np.array_equal(a.probe.feeds["x"], b.probe.feeds["x"]) for a, b in zip(first, second, strict=True))


def test_kin_show_the_same_close_by() -> None:
    search = hunt(mean, lambda x: mean(x) + (x.mean((1, 2, 3)) > 1.0)[:, None])
    found = look(search)
    kin = search.kin(found[0], 4)
    assert kin and all(not np.array_equal(k.probe.feeds["x"], found[0].probe.feeds["x"]) for k in kin)
    assert len(search.found) == len(found)


def test_what_counts_is_the_number_not_the_label() -> None:
    s, t = np.array([[1.0, 1.000001]]), np.array([[1.000002, 1.0]])
    scores = boundary.scores({"y": s}, {"y": t}, ALLOWED, "y")
    assert scores.labels is not None and scores.labels.tolist() == [[1, 0]] and scores.excess[0] < 1


@pytest.mark.parametrize(("source", "target", "excess"), [
    ([[1.0, np.nan]], [[1.0, 2.0]], 0.0), ([[1.0, 2.0]], [[1.0, np.nan]], np.inf),
    ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], np.inf), ([[1.0, 2.0]], [[1.0, 2.0]], 0.0),
])
def test_numbers_that_are_not_finite(source: list[list[float]], target: list[list[float]], excess: float) -> None:
    found = boundary.scores({"y": np.array(source)}, {"y": np.array(target)}, ALLOWED)
    assert found.excess.tolist() == [excess]


def test_what_is_allowed_grows_with_the_answers() -> None:
    s = np.array([[1.0], [1000.0]])
    found = boundary.scores({"y": s}, {"y": s + 1e-4}, {"y": Allowance(1e-5, 0.0, 1.0)})
    assert found.excess == pytest.approx([10.0, 0.01], rel=1e-6)


def test_candidates_keep_what_was_measured() -> None:
    probes = [Probe({"x": np.zeros(2)}, "a", True), Probe({"x": np.ones(2)}, "b", False)]
    scores = boundary.Scores(np.array([3.0, 0.0]), np.zeros((2, 2)), np.array([0.5, 0.0]), np.array([[0, 1], [1, 1]]))
    first, second = boundary.candidates(probes, scores)
    assert (first.excess, first.largest, first.labels, second.labels) == (3.0, 0.5, (0, 1), (1, 1))
