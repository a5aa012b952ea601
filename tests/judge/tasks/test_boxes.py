from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.judge.tasks.boxes import MOST, Detections, compare, corners, iou, least_score, match


def scene(seed: int, count: int = 8) -> Detections:
    """Boxes on a grid, so that no two overlap, with scores from 0.6 to 1 and three classes."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(36)[:count]
    low = np.stack([cells % 6, cells // 6], 1) * 10.0 + rng.uniform(0, 3, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(3, 6, (count, 2))], 1)
    return Detections(boxes, rng.uniform(0.6, 1.0, count), rng.integers(0, 3, count))


def chosen(d: Detections, rows: np.ndarray) -> Detections:
    return Detections(d.boxes[rows], d.scores[rows], d.classes[rows])


SEEDS, COUNTS = st.integers(0, 2000), st.integers(0, 12)


def test_iou_by_hand() -> None:
    a = np.array([[0.0, 0.0, 2.0, 2.0]])
    b = np.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0], [1.0, 1.0, 1.0, 1.0]])
    assert iou(a, b)[0] == pytest.approx([1 / 7, 1 / 2, 0.0, 0.0])


def test_centre_and_size() -> None:
    assert corners(np.array([[2.0, 3.0, 2.0, 4.0]]), True).tolist() == [[1.0, 1.0, 3.0, 5.0]]
    assert corners(np.array([[1.0, 1.0, 3.0, 5.0]]), False).tolist() == [[1.0, 1.0, 3.0, 5.0]]


def test_the_best_score_chooses_first_and_a_box_is_taken_once() -> None:
    """COCO's greedy way: both detections overlap the box, the better one gets it though the other overlaps more."""
    box = Detections(np.array([[0.0, 0.0, 10.0, 10.0]]), np.ones(1), np.zeros(1, np.int64))
    two = Detections(np.array([[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 10.0]]), np.array([0.9, 0.8]),
                     np.zeros(2, np.int64))
    assert match(box, two, 0.5) == [(0, 0, pytest.approx(0.9))]
    assert match(box, two, 0.95) == [(0, 1, 1.0)]
    other = Detections(two.boxes, two.scores, np.array([1, 1]))
    assert match(box, other, 0.5) == []


@given(SEEDS, COUNTS)
def test_a_scene_agrees_with_itself(seed: int, count: int) -> None:
    d = scene(seed, count)
    found = compare(d, d, 0.4, 0.99)
    assert (found.f1, found.iou, found.score, found.found) == (1.0, pytest.approx(1.0), 0.0, (count, count))


@given(SEEDS, SEEDS, COUNTS)
def test_the_order_of_detections_does_not_count(first: int, second: int, order: int) -> None:
    a, b = scene(first), scene(second)
    rows = np.random.default_rng(order).permutation(8)
    assert compare(a, b, 0.6, 0.3) == compare(chosen(a, rows), chosen(b, rows[::-1]), 0.6, 0.3)


@given(SEEDS, SEEDS)
def test_equal_scores_and_crowds_do_not_hang_on_the_order_either(seed: int, order: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 4, (10, 2)).astype(float)
    crowd = Detections(np.concatenate([low, low + rng.integers(2, 5, (10, 2))], 1), rng.choice([0.5, 0.9], 10),
                       rng.integers(0, 2, 10))
    other = chosen(crowd, np.random.default_rng(order).permutation(10))
    assert compare(crowd, other, 0.3, 0.99).f1 == 1.0


@given(SEEDS, SEEDS, st.floats(0.1, 0.9))
def test_f1_is_symmetric_and_bounded(first: int, second: int, threshold: float) -> None:
    rng = np.random.default_rng(first)
    a = scene(first)
    moved = Detections(a.boxes + np.random.default_rng(second).normal(0, 2, a.boxes.shape), rng.uniform(0.3, 1, 8),
                       a.classes)
    there, back = compare(a, moved, 0.5, threshold), compare(moved, a, 0.5, threshold)
    assert there.f1 == pytest.approx(back.f1) and 0.0 <= there.f1 <= 1.0


@given(SEEDS, st.integers(0, 7), st.integers(1, 7))
def test_more_damage_is_never_better(seed: int, first: int, more: int) -> None:
    """Boxes go somewhere else, one after the other."""
    d = scene(seed)

    def damaged(count: int) -> Detections:
        boxes = d.boxes.copy()
        boxes[:count] += 1000.0
        return Detections(boxes, d.scores, d.classes)

    f1 = [compare(d, damaged(min(8, n)), 0.4, 0.5).f1 for n in (first, first + more)]
    assert f1[0] == pytest.approx(1 - first / 8) and f1[0] >= f1[1]


@given(SEEDS, st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_overlap_falls_with_the_shift(seed: int, near: float, further: float) -> None:
    d = scene(seed)
    overlaps = [iou(d.boxes[:1], d.boxes[:1] + s)[0, 0] for s in (near, near + further)]
    assert overlaps[0] >= overlaps[1] - 1e-12


def test_detections_at_the_least_score_come_and_go() -> None:
    d = scene(0)
    marks = np.array([0.9, 0.9, 0.9, 0.9, 0.51, 0.52, 0.2, 0.1])
    source = Detections(d.boxes, marks, d.classes)
    less = Detections(d.boxes, np.where(marks < 0.6, 0.49, marks), d.classes)
    gone = Detections(d.boxes, np.where(marks < 0.6, 0.1, marks), d.classes)
    assert compare(source, less, 0.5, 0.5).f1 == compare(source, gone, 0.5, 0.5).f1 == 1.0
    lost = Detections(d.boxes, np.where(np.arange(8) == 0, 0.1, marks), d.classes)
    assert compare(source, lost, 0.5, 0.5).f1 == pytest.approx(2 * 3 / 7)


def test_nothing_agrees_with_nothing_only() -> None:
    none = scene(0, 0)
    assert compare(none, none, 0.5, 0.5).f1 == 1.0 and compare(scene(0), none, 0.5, 0.5).f1 == 0.0


def test_boxes_without_area_are_none() -> None:
    flat = Detections(np.array([[1.0, 1.0, 1.0, 5.0]]), np.ones(1), np.zeros(1, np.int64))
    assert compare(flat, scene(0, 0), 0.5, 0.5).f1 == 1.0


def test_the_least_score() -> None:
    assert least_score(scene(0, 0), 0.05, 0.5) == 0.05
    d = Detections(np.zeros((3, 4)), np.array([0.8, 0.2, np.nan]), np.zeros(3))
    assert least_score(d, 0.05, 0.5) == pytest.approx(0.4)
    assert least_score(Detections(d.boxes, np.array([0.02, 0.01, -np.inf]), d.classes), 0.05, 0.5) == 0.05
    many = Detections(np.zeros((300, 4)), np.linspace(1, 0.6, 300), np.zeros(300))
    assert least_score(many, 0.05, 0.5) == pytest.approx(np.linspace(1, 0.6, 300)[MOST - 1])
