"""Boxes: overlap, matching, and the F1 that follows. Arrays of float64, boxes as corners (K, 4).

Matching is COCO's (T.-Y. Lin et al., Microsoft COCO, ECCV 2014; `COCOeval.evaluateImg`): detections, the best score
first, each take the free box of their class that they overlap most, if the IoU reaches the threshold. What is "ignored"
there because a crowd covers it, is here what stands too near the least score: it may be matched, but is not missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array

MARGIN = 0.1  # of the least score: how near to it a detection may come and go
MOST = 100  # detections of a sample that count, as COCO has it
_HELD = 3 * MOST  # that are held against each other


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model finds on one sample: boxes float64 (K, 4), scores float64 (K,), classes int64 (K,)."""

    boxes: Array
    scores: Array
    classes: Array

    def above(self, score: float) -> Detections:
        """Those with at least a score and some area, best first; equal scores ordered by box and class."""
        chosen = np.nonzero((self.scores >= score) & (self.boxes[:, 2:] > self.boxes[:, :2]).all(1))[0]
        keys = (*self.boxes[chosen].T[::-1], self.classes[chosen], -self.scores[chosen])
        chosen = chosen[np.lexsort(keys)[: _HELD]]
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


@dataclass(frozen=True, slots=True)
class Matched:
    """How the detections of two models match. f1: 1 where neither finds anything. iou, score: mean overlap and largest
    difference of scores among matched pairs (1 and 0 without any). found: the source's and the target's detections.
    """

    f1: float
    iou: float
    score: float
    found: tuple[int, int]


def corners(boxes: Array, centre: bool) -> Array:
    """Boxes (…, 4) of centre and size, or of two corners, as two corners in float64."""
    made = np.asarray(boxes, np.float64)
    if not centre:
        return made
    middle, half = made[..., :2], made[..., 2:] / 2.0
    return np.concatenate([middle - half, middle + half], -1)


def iou(a: Array, b: Array) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes (K, 4) and (L, 4): float64 (K, L)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.maximum(high - low, 0.0), -1)
    own, other = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0.0), -1) for x in (a, b))
    union = own[:, None] + other[None] - inner
    made: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0.0)
    return made


def match(source: Detections, target: Detections, threshold: float) -> list[tuple[int, int, float]]:
    """(source's index, target's index, IoU) of matched pairs, in the order of the target's detections."""
    overlap = iou(source.boxes, target.boxes)
    overlap = np.where(source.classes[:, None] == target.classes[None], overlap, -1.0)
    pairs = []
    for j in range(len(target.scores)):
        i = int(overlap[:, j].argmax()) if len(overlap) else -1
        if i >= 0 and overlap[i, j] >= threshold:
            pairs.append((i, j, float(overlap[i, j])))
            overlap[i] = -1.0
    return pairs


def compare(source: Detections, target: Detections, least: float, threshold: float) -> Matched:
    """F1 = 2 · matched / (source's + target's), over the detections that stand clearly above the `least` score.

    The greedy match depends on who is matched to whom; the better one of both directions counts, so that the measure is
    symmetric.
    """
    s, t = (d.above(least * (1.0 - MARGIN)) for d in (source, target))
    clear = least * (1.0 + MARGIN)
    solid_s, solid_t = s.scores >= clear, t.scores >= clear
    total = int(solid_s.sum() + solid_t.sum())
    there = match(s, t, threshold)
    back = [(i, j, o) for j, i, o in match(t, s, threshold)]

    def hits(pairs: list[tuple[int, int, float]]) -> int:
        return sum(int(solid_s[i]) + int(solid_t[j]) for i, j, _ in pairs)

    best = max((there, back), key=hits)
    return Matched(
        hits(best) / total if total else 1.0,
        float(np.mean([o for *_, o in best])) if best else 1.0,
        max((abs(float(s.scores[i] - t.scores[j])) for i, j, _ in best), default=0.0),
        (int(solid_s.sum()), int(solid_t.sum())),
    )


def least_score(source: Detections, floor: float, of_best: float) -> float:
    """The score from which detections of a sample count: a share of the source's best, no less than the floor.

    Where more than a hundred would, that of the hundredth.
    """
    best = np.sort(source.scores[np.isfinite(source.scores)])[::-1]
    if not len(best):
        return floor
    return float(max(floor, of_best * best[0], best[MOST - 1] if len(best) >= MOST else 0.0))
