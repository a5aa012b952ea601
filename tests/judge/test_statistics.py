"""Coverage is proved by enumerating every outcome, not by simulation, wherever n allows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetafix.judge.statistics import Stopping, clopper_pearson, log_evidence_against, regularised_beta


def pmf(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.001, 0.999))
def test_beta_is_the_binomial_tail(n: int, k: int, p: float) -> None:
    k = 1 + k % n
    assert regularised_beta(p, k, n - k + 1) == pytest.approx(sum(pmf(i, n, p) for i in range(k, n + 1)), abs=1e-12)


@pytest.mark.parametrize(("x", "a", "b"), [(0.5, 2.0, 2.0), (0.01, 0.5, 30.0), (0.97, 5000.0, 120.0), (1e-6, 1.0, 1e5)])
def test_beta_against_scipy(x: float, a: float, b: float) -> None:
    special = pytest.importorskip("scipy.special")
    assert regularised_beta(x, a, b) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(
    ("hits", "n", "bounds"),
    [
        (0, 10, (0.0, 0.3084971)), (10, 10, (0.6915029, 1.0)), (5, 10, (0.1870860, 0.8129140)),
        (100, 100, (0.9637833, 1.0)),
    ],
)
def test_published_intervals(hits: int, n: int, bounds: tuple[float, float]) -> None:
    assert clopper_pearson(hits, n) == pytest.approx(bounds, abs=1e-6)


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0.0, 1.0), st.sampled_from([0.8, 0.95, 0.99]))
def test_exact_coverage(n: int, p: float, confidence: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        low, high = clopper_pearson(k, n, confidence)
        assert 0.0 <= low <= k / n <= high <= 1.0
        covered += pmf(k, n, p) * (low - 1e-12 <= p <= high + 1e-12)
    assert covered >= confidence - 1e-9


def test_bounds_without_samples_and_bad_counts() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    for bad in [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]:
        with pytest.raises(ValueError, match="expected"):
            clopper_pearson(*bad)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_the_bet_is_fair(n: int, p: float) -> None:
    assert sum(pmf(k, n, p) * math.exp(log_evidence_against(p, k, n)) for k in range(n + 1)) == pytest.approx(1.0)


def error_probability(rule: Stopping, p: float, wrong: str) -> float:
    """The exact probability of stopping early with the wrong answer, by dynamic programming over all paths."""
    alive, wrongly = {0: 1.0}, 0.0
    for n in range(1, rule.planned + 1):
        step: dict[int, float] = {}
        for k, weight in alive.items():
            for more, chance in ((1, p), (0, 1 - p)):
                step[k + more] = step.get(k + more, 0.0) + weight * chance
        alive = {}
        for k, weight in step.items():
            decision = rule.decide(k, n)
            if decision is None:
                alive[k] = weight
            elif decision == wrong:
                wrongly += weight
    return wrongly


@pytest.mark.parametrize("limit", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_looking_after_every_sample_keeps_the_error(limit: float, confidence: float) -> None:
    endless = Stopping(limit, confidence, planned=10**9)  # so that curtailment never speaks
    rule = _first(endless, 400)
    assert error_probability(rule, limit, "fail") + error_probability(rule, limit, "pass") <= 1 - confidence
    assert error_probability(rule, limit * 0.9, "fail") <= 1 - confidence
    assert error_probability(rule, limit * 1.1, "pass") <= 1 - confidence


def _first(rule: Stopping, looks: int) -> Stopping:
    class Bounded(Stopping):
        def decide(self, mismatches: int, n: int):  # type: ignore[no-untyped-def]
            return rule.decide(mismatches, n)

    return Bounded(rule.limit, rule.confidence, looks)


def test_looking_repeatedly_with_fixed_bounds_would_not_keep_it() -> None:
    class Naive(Stopping):
        def decide(self, mismatches: int, n: int):  # type: ignore[no-untyped-def]
            low, high = clopper_pearson(mismatches, n, self.confidence)
            return "fail" if low > self.limit else "pass" if high < self.limit else None

    rule = Naive(0.3, 0.8, 60)
    assert error_probability(rule, 0.3, "fail") + error_probability(rule, 0.3, "pass") > 0.2


def test_limit_zero_stops_at_the_first_mismatch_and_never_passes_early() -> None:
    rule = Stopping(planned=100)
    assert rule.decide(0, 99) is None
    assert rule.decide(0, 100) == "pass"
    assert rule.decide(1, 1) == "fail"


@given(st.integers(1, 50), st.floats(0, 0.5), st.data())
def test_curtailment_gives_the_answer_of_the_full_run(planned: int, limit: float, data: st.DataObject) -> None:
    rule = Stopping(limit, math.nextafter(1.0, 0.0), planned)
    outcomes = data.draw(st.lists(st.booleans(), min_size=planned, max_size=planned))
    full = "fail" if sum(outcomes) > limit * planned + 1e-9 else "pass"
    for n in range(1, planned + 1):
        decision = rule.decide(sum(outcomes[:n]), n)
        if decision is not None:
            assert decision == full
            return
    pytest.fail("the full run must decide")


def test_a_clear_case_is_decided_early() -> None:
    rule = Stopping(0.1, 0.95, 1000)
    assert next(n for n in range(1, 1000) if rule.decide(0, n)) < 80
    assert next(n for n in range(1, 1000) if rule.decide(n // 2, n)) < 30
