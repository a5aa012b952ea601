"""What holds for every comparator."""

from __future__ import annotations

import numpy as np
import pytest

from fetafix.judge.tasks.base import Assignment, Claim, Comparator, Observed, View, figure, percent
from fetafix.judge.tasks.registry import known
from tests.judge.tasks.test_detection import CHOSEN
from tests.judge.tasks.test_segmentation import LOGITS

RNG = np.random.default_rng(0)
OUTPUTS = {
    "classification": {"y": RNG.normal(size=(4, 10))}, "segmentation": {"y": LOGITS[:4]}, "detection": CHOSEN,
    "tokens": {"y": RNG.normal(size=(4, 7, 9))}, "embedding": {"y": RNG.normal(size=(4, 16))},
    "regression": {"y": RNG.normal(size=(4, 3))}, "numeric": {"y": RNG.normal(size=(4, 3))},
}


def task(name: str) -> Assignment:
    comparator: Comparator = known([])[name]
    claim = comparator.claim([View(n, v) for n, v in OUTPUTS[name].items()], True)[0]
    return Assignment(comparator, claim, comparator.limits)


def observed(a: Assignment, target: dict[str, np.ndarray], rows: slice = slice(None)) -> Observed:
    source = OUTPUTS[a.comparator.name]
    both = ({role: outputs[name][rows] for role, name in a.claim.roles.items()} for outputs in (source, target))
    found = a.comparator.observe(*both, a.claim, a.limits, {})
    assert found is not None
    return found


def damaged(name: str) -> dict[str, np.ndarray]:
    """Every output reversed along its second axis, which changes what each of them says."""
    return {k: np.flip(v, 1) * (1 if name != "detection" else 3) if v.ndim > 1 else v for k, v in OUTPUTS[name].items()}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_model_agrees_with_itself(name: str) -> None:
    a = task(name)
    seen = observed(a, OUTPUTS[name])
    assert a.comparator.agree(seen, a.limits).tolist() == [True] * 4 == (~a.comparator.lost(seen, a.limits)).tolist()
    assert a.comparator.likeness(seen) == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(set(OUTPUTS) - {"numeric"}))
def test_damage_is_seen_said_and_told_apart(name: str) -> None:
    a = task(name)
    seen = observed(a, damaged(name))
    agreeing = a.comparator.agree(seen, a.limits)
    assert not agreeing.all() and a.comparator.likeness(seen) < 1.0
    assert all(a.comparator.answer(seen, i) for i in range(4))
    figures = a.comparator.figures(seen, a.limits)
    assert a.comparator.words(figures) and all(isinstance(v, float) for v in figures.values())
    assert a.comparator.words(figures) != a.comparator.words(
        a.comparator.figures(observed(a, OUTPUTS[name]), a.limits))


@pytest.mark.parametrize("name", OUTPUTS)
def test_chunks_join(name: str) -> None:
    a = task(name)
    whole = observed(a, damaged(name))
    parts = Observed() + observed(a, damaged(name), slice(0, 1)) + observed(a, damaged(name), slice(1, 4)) + Observed()
    assert parts.n == 4
    assert a.comparator.agree(parts, a.limits).tolist() == a.comparator.agree(whole, a.limits).tolist()
    assert a.comparator.figures(parts, a.limits) == pytest.approx(a.comparator.figures(whole, a.limits))


def test_what_is_lost_disagrees() -> None:
    for name in OUTPUTS:
        a = task(name)
        seen = observed(a, damaged(name))
        lost, agreeing = a.comparator.lost(seen, a.limits), a.comparator.agree(seen, a.limits)
        assert not (lost & agreeing).any()
        if a.comparator.final(seen, a.limits):
            assert (lost == ~agreeing).all()


def test_rows_of_other_lengths_are_filled_up() -> None:
    a = Observed({"m": np.ones(1)}, {"k": np.array([[1, 2]])})
    b = Observed({"m": np.array([np.nan])}, {"k": np.array([[3, 4, 5]])})
    assert (a + b).kept["k"].tolist() == [[1, 2, 0], [3, 4, 5]] and (a + b).mean("m") == 1.0
    assert b.mean("m") == 1.0 and Observed().n == 0


def test_keys_tell_assignments_apart() -> None:
    a, b = (Assignment(known([])["tokens"], Claim({"output": n}, "yes", ""), {}) for n in "ab")
    assert a.key != b.key and a.outputs == ("a",) and a.sure


def test_figures_are_honest() -> None:
    assert [figure(v) for v in (1.0, 0.99999999, 0.5, -0.25)] == ["1.0000", "0.9999", "0.5000", "-0.2500"]
    assert [percent(v) for v in (1.0, 0.99999, 0.5)] == ["100.0%", "99.9%", "50.0%"]
    assert percent(0.999999, 2) == "99.99%" and figure(1 - 1e-15) == "1.0000"
