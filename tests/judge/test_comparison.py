from __future__ import annotations

import numpy as np
import pytest

from fetafix.judge.binding import Binding
from fetafix.judge.comparison import Comparison, agreement, compare
from fetafix.judge.noise import Floor, Noise, Tolerance
from fetafix.judge.tasks.base import Assignment, View, only
from fetafix.judge.tasks.classification import Classification

RNG = np.random.default_rng(0)
SOURCE = {"y": RNG.normal(size=(12, 10)).astype(np.float32), "map": RNG.normal(size=(12, 3, 4, 5)).astype(np.float32)}
TARGET = {"z": SOURCE["y"] + np.float32(0.01), "m": SOURCE["map"].transpose(0, 2, 3, 1)}
BOUND = (Binding("y", "z", "by order"), Binding("map", "m", "by shape", perm=(0, 2, 3, 1)))
NOISE = Noise({"y": Floor(1e-6, 1e-6)})
HEAD = [Assignment(Classification(), only(View("y", SOURCE["y"]), "yes", "its scores"), {})]


def rows(outputs: dict[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    return {k: v[start:stop] for k, v in outputs.items()}


def test_chunks_add_up() -> None:
    whole = compare(BOUND, HEAD, SOURCE, TARGET, NOISE)
    parts = Comparison()
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        parts += compare(BOUND, HEAD, rows(SOURCE, start, stop), rows(TARGET, start, stop), NOISE)
    bounds = {"y": Tolerance(max_abs=0.1), "map": Tolerance(max_abs=0.0)}
    first, second = (agreement(c, BOUND, HEAD, bounds, NOISE) for c in (whole, parts))
    assert first.samples == second.samples == 12
    assert first.max_abs == second.max_abs == pytest.approx(0.01, rel=1e-4)
    assert (first.top1, first.outputs[1].max_abs, first.outputs[1].layout) == (1.0, 0.0, [0, 2, 3, 1])
    assert [o.within for o in first.outputs] == [True, True]


def test_the_primary_output_is_the_head() -> None:
    found = agreement(compare(BOUND[::-1], HEAD, SOURCE, TARGET, NOISE), BOUND[::-1], HEAD, {}, NOISE)
    assert found.max_abs == pytest.approx(0.01, rel=1e-4) and found.noise_floor == 1e-6


def test_without_heads_there_are_no_labels() -> None:
    found = agreement(compare(BOUND, [], SOURCE, TARGET, NOISE), BOUND, [], {}, NOISE)
    assert (found.top1, found.top1_bounds, found.top5, found.kendall_tau) == (None, None, None, None)


def test_mismatches_are_named() -> None:
    other = {**TARGET, "z": TARGET["z"].copy()}
    other["z"][7, 3] = 99
    total = compare(BOUND, HEAD, SOURCE, other, NOISE)
    found = agreement(total, BOUND, HEAD, {}, NOISE, names=[f"{i}.png" for i in range(12)])
    assert len(found.mismatches) == 1
    assert found.mismatches[0] == f"7.png: source says {SOURCE['y'][7].argmax()}, target 3"
    assert found.top1 == pytest.approx(11 / 12)


def test_few_classes_have_no_top5() -> None:
    s, t = {"y": SOURCE["y"][:, :4]}, {"z": TARGET["z"][:, :4]}
    assert agreement(compare(BOUND[:1], HEAD, s, t, NOISE), BOUND[:1], HEAD, {}, NOISE).top5 is None


def test_shapes_that_do_not_fit_are_kept_as_such() -> None:
    total = compare(BOUND[:1], HEAD, SOURCE, {"z": np.zeros((12, 11))}, NOISE)
    assert total.shapes == {"y": ((12, 10), (12, 11))}
    found = agreement(total, BOUND[:1], HEAD, {}, NOISE)
    assert found.outputs[0].within is False and found.max_abs is None and found.top1 is not None


@pytest.mark.parametrize(
    ("bound", "within"),
    [
        (Tolerance(), True), (Tolerance(max_abs=0.011), True), (Tolerance(max_abs=0.009), False),
        (Tolerance(rel_l2=1e-4), False), (Tolerance(mean_abs=0.011, max_rel=2.0), True),
        (Tolerance(max_abs=1, max_rel=1e-6), False),
    ],
)
def test_every_bound_counts(bound: Tolerance, within: bool) -> None:
    total = compare(BOUND[:1], [], SOURCE, TARGET, NOISE)
    assert agreement(total, BOUND[:1], [], {"y": bound}, NOISE).outputs[0].within is within
