from __future__ import annotations

import numpy as np
import pytest

from fetafix.judge.tasks.base import Claim, View
from fetafix.judge.tasks.detected import read
from fetafix.judge.tasks.detection import Detection
from tests.judge.tasks.support import asked, claimed
from tests.judge.tasks.test_boxes import scene

DET = Detection()
N, K = 4, 8
SCENES = [scene(k, K) for k in range(N)]
BOXES = np.stack([s.boxes for s in SCENES]).astype(np.float32)
SCORES = np.stack([s.scores for s in SCENES]).astype(np.float32)
CLASSES = np.stack([s.classes for s in SCENES])
COUNT = np.full((N,), K, np.float32)
CHOSEN = {"boxes": BOXES, "scores": SCORES, "classes": CLASSES, "count": COUNT}


def raw(background: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """Candidates: eight objects among 40 boxes, the others nothing, as probabilities with a class for it."""
    boxes = np.concatenate([BOXES, np.broadcast_to([70, 70, 72, 72], (N, 32, 4))], 1).astype(np.float32)
    logits = np.random.default_rng(seed).normal(0, 0.1, (N, 40, 5))
    logits[:, K:, 0] += 6.0
    logits[np.arange(N)[:, None], np.arange(K)[None], CLASSES + 1] += 4.0
    chances = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return {"boxes": boxes, "scores": (chances if background else logits).astype(np.float32)}


def judged(source: dict[str, np.ndarray], target: dict[str, np.ndarray], **limits: float) -> tuple[list[bool], dict]:
    claim = asked(DET, **source)
    both = ({role: rows[name] for role, name in claim.roles.items()} for rows in (source, target))
    chosen = {**DET.limits, **limits}
    found = DET.observe(*both, claim, chosen, {})
    assert found is not None
    return DET.agree(found, chosen).tolist(), DET.figures(found, chosen)


def turned(order: np.ndarray, **outputs: np.ndarray) -> dict[str, np.ndarray]:
    return {k: v if v.ndim == 1 else v[:, order] for k, v in outputs.items()}


def test_chosen_detections_agree_in_any_order() -> None:
    agreeing, figures = judged(CHOSEN, turned(np.random.default_rng(3).permutation(K), **CHOSEN))
    assert agreeing == [True] * N and figures["f1"] == figures["iou"] == 1.0 and figures["detections"] == K


def test_candidates_agree_in_any_order() -> None:
    agreeing, figures = judged(raw(), turned(np.random.default_rng(3).permutation(40), **raw(seed=1)), score_drift=0.1)
    assert agreeing == [True] * N and figures["detections"] == K


@pytest.mark.parametrize(("change", "f1"), [
    ({"classes": (CLASSES + 1) % 3}, 0.0), ({"boxes": BOXES + 3}, None), ({"scores": SCORES * 0.01}, 0.0),
    ({"count": COUNT - 4}, 2 / 3), ({"boxes": BOXES[..., [1, 0, 3, 2]]}, None),
])
def test_faults_are_caught(change: dict[str, np.ndarray], f1: float | None) -> None:
    agreeing, figures = judged(CHOSEN, {**CHOSEN, **change})
    assert agreeing == [False] * N and (f1 is None or figures["f1"] == pytest.approx(f1))


def test_drift_is_tolerated() -> None:
    drift = {**CHOSEN, "boxes": BOXES + 0.05, "scores": SCORES * 0.99}
    agreeing, figures = judged(CHOSEN, drift)
    assert agreeing == [True] * N and 0.9 < figures["iou"] < 1.0 and 0 < figures["score_drift"] < 0.02
    assert judged(CHOSEN, drift, iou=0.99)[0] == [False] * N


def test_scores_that_drift_far_do_not_agree() -> None:
    assert judged(CHOSEN, {**CHOSEN, "scores": SCORES * 0.8})[0] == [False] * N
    assert judged(CHOSEN, {**CHOSEN, "scores": SCORES * 0.8}, score_drift=0.3, of_best=0.1)[0] == [True] * N


def test_what_lies_behind_the_count_does_not_matter() -> None:
    few = {**CHOSEN, "count": COUNT - 3}
    other = {**few, "boxes": np.concatenate([BOXES[:, :5], BOXES[:, 5:] * 7], 1)}
    assert judged(few, other)[0] == [True] * N
    assert judged(few, other)[1]["detections"] == 5


def test_roles() -> None:
    claim = asked(DET, **CHOSEN)
    assert claim.roles == {"boxes": "boxes", "scores": "scores", "classes": "classes", "count": "count"}
    assert claim.facts == {"centre": False, "reading": "as they are", "nothing": None}
    assert asked(DET, **raw()).facts == {"centre": False, "reading": "as they are", "nothing": 0}
    assert asked(DET, **raw(False)).facts == {"centre": False, "reading": "softmax", "nothing": 0}
    centre = np.concatenate([(BOXES[..., :2] + BOXES[..., 2:]) / 2, BOXES[..., 2:] - BOXES[..., :2]], -1)
    assert asked(DET, **{**CHOSEN, "boxes": centre}).facts["centre"] is True


def test_logits_and_probabilities_say_the_same() -> None:
    one, other = raw(), {**raw(False)}
    claims = asked(DET, **one), asked(DET, **other)
    for i in range(N):
        first, second = (read(rows, i, c.facts) for rows, c in zip((one, other), claims, strict=True))
        assert first.classes[:K].tolist() == second.classes[:K].tolist() == (CLASSES[i] + 1).tolist()
        assert (first.scores[K:] < 0.1).all() and first.scores[:K] == pytest.approx(second.scores[:K], abs=0.02)


def test_rows_of_one_output() -> None:
    """The same scene as chosen rows, with objectness, and with candidates along the last axis."""
    chosen = np.concatenate([BOXES, SCORES[..., None], CLASSES[..., None]], 2)
    centre = np.concatenate([(BOXES[..., :2] + BOXES[..., 2:]) / 2, BOXES[..., 2:] - BOXES[..., :2]], -1)
    onehot = np.eye(3)[CLASSES]
    five = np.concatenate([centre, SCORES[..., None], onehot], 2)
    eight = np.concatenate([centre, SCORES[..., None] * onehot], 2).transpose(0, 2, 1)
    five, eight = np.concatenate([five] * 2, 1), np.concatenate([eight] * 2, 2)
    for rows, kind in ((np.concatenate([chosen] * 2, 1), "chosen"), (five, "objectness"), (eight, "classes")):
        claim = asked(DET, y=rows)
        assert (claim.facts["rows"], claim.facts["centre"]) == (kind, kind != "chosen")
        found = read({"rows": rows}, 1, claim.facts)
        assert found.boxes[:K] == pytest.approx(BOXES[1], abs=1e-4) and found.classes[:K].tolist() == CLASSES[
            1].tolist()
        assert found.scores[:K] == pytest.approx(SCORES[1])


UNNAMED = {"a": BOXES, "b": SCORES, "c": CLASSES.astype(np.float32), "d": COUNT}
OFFSETS = {"boxes": np.float32(np.random.default_rng(2).normal(size=(N, 40, 4))), "scores": raw()["scores"]}


@pytest.mark.parametrize(("outputs", "sure"), [
    (CHOSEN, ["yes"]), (UNNAMED, ["yes"]), (raw(), ["yes"]), (raw(False), ["yes"]),
    ({"p": raw(False)["boxes"], "q": raw(False)["scores"]}, ["maybe"]), (OFFSETS, []),
    ({"boxes": BOXES}, []), ({"scores": SCORES, "boxes": BOXES[:, :5]}, []),
    ({**CHOSEN, "scores": SCORES * 0.001}, ["maybe"]),
    ({"rows": np.concatenate([BOXES, SCORES[..., None], CLASSES[..., None]], 2)}, []),
])
def test_what_it_takes_for_detections(outputs: dict[str, np.ndarray], sure: list[str]) -> None:
    assert claimed(DET, **outputs) == sure


def test_other_shapes_are_not_compared() -> None:
    claim = Claim({"boxes": "boxes", "scores": "scores"}, "yes", "", {"centre": False, "reading": "as they are",
                                                                     "nothing": None})
    shorter = {"boxes": BOXES[:, :5], "scores": SCORES[:, :5]}
    assert DET.observe({"boxes": BOXES, "scores": SCORES}, shorter, claim, DET.limits, {}) is None


def test_nan_scores_are_no_detections() -> None:
    broken = {**CHOSEN, "scores": np.full_like(SCORES, np.nan)}
    assert judged(CHOSEN, broken)[0] == [False] * N


def test_outputs_beside_them_are_left_alone() -> None:
    views = [View(n, v, False) for n, v in {**CHOSEN, "features": np.zeros((N, 64))}.items()]
    assert set(DET.claim(views, False)[0].roles.values()) == set(CHOSEN)


def test_four_classes_are_told_from_boxes_by_name() -> None:
    four = {k: v if k == "boxes" else v[..., :4] for k, v in raw(False).items()}
    assert claimed(DET, **four) == ["yes"]
    assert claimed(DET, p=four["boxes"], q=four["scores"]) == []
