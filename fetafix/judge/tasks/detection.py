"""Boxes with scores: which objects are found, whatever the order in which they are listed.

    F1 = 2 · matched / (source's detections + target's)         matched: of one class, IoU at least `iou`

A detection counts from half of the sample's best score in the source (`score` at least); how boxes are matched is told
in `boxes`. The outputs belong together, and are recognised together: boxes (N, K, 4), scores (N, K, C) of candidates or
(N, K) of chosen ones, then often classes (N, K) and a count (N,) or (N, 1). Corners and centre-with-size are told apart
by the values, so are probabilities and logits, and the class that stands for "nothing here".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.judge.tasks import detected
from fetafix.judge.tasks.base import Claim, Limits, Observed, Rows, View, alike, figure
from fetafix.judge.tasks.boxes import compare, least_score


class Detection:
    """Detections. limits: iou, from which two boxes match; f1, the least of a sample; score_drift, the largest
    difference of scores of matched boxes; score, below which nothing counts; of_best, the share of the sample's best
    score from which a detection counts.
    """

    name = "detection"
    needs = "boxes (N, K, 4) with scores (N, K, C) or (N, K), and maybe classes (N, K) and a count (N,)"
    limits: Limits = {"iou": 0.75, "f1": 0.9, "score_drift": 0.1, "score": 0.05, "of_best": 0.5}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """The outputs that make up detections, if there are any."""
        found = detected.group(views, asked)
        return [found] if found is not None else []

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """F1, overlap and drift of the scores by sample; counts of detections."""
        if not alike(source, target):
            return None
        rows = []
        for i in range(len(next(iter(source.values())))):
            s, t = (detected.read(r, i, claim.facts) for r in (source, target))
            m = compare(s, t, least_score(s, limits["score"], limits["of_best"]), limits["iou"])
            rows.append((m.f1, m.iou, m.score, *map(float, m.found)))
        names = ("f1", "iou", "score_drift", "source", "target")
        table = np.array(rows, np.float64).reshape(-1, len(names))
        return Observed(dict(zip(names, table.T, strict=True)))

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Enough matched boxes, with nearly the same scores."""
        fine: NDArray[np.bool_] = (seen.measures["f1"] >= limits["f1"] - 1e-12) & (
            seen.measures["score_drift"] <= limits["score_drift"])
        return fine

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Those that disagree."""
        return ~self.agree(seen, limits)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """The detections of a sample stand for themselves."""
        return True

    def likeness(self, seen: Observed) -> float:
        """Mean F1, times the mean overlap of what is matched."""
        return float((seen.measures["f1"] * seen.measures["iou"]).mean()) if seen.n else 1.0

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """Mean and least F1, mean IoU and largest drift of the scores of matched boxes, detections a sample."""
        m = seen.measures
        return {"f1": seen.mean("f1"), "worst_f1": float(m["f1"].min(initial=1.0)), "iou": seen.mean("iou"),
                "score_drift": float(m["score_drift"].max(initial=0.0)), "detections": float(m["source"].mean())}

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures."""
        f1, worst, overlap = (figure(figures[k]) for k in ("f1", "worst_f1", "iou"))
        return (f"F1 {f1} (worst sample {worst}) of {figures['detections']:.1f} detections a sample, matched boxes "
                f"overlap by {overlap}, their scores differ by up to {figures['score_drift']:.2g}")

    def answer(self, seen: Observed, i: int) -> str:
        """How many were found, and how many of them match."""
        m = {k: float(v[i]) for k, v in seen.measures.items()}
        return f"source finds {m['source']:.0f}, target {m['target']:.0f}, F1 {m['f1']:.3f}, IoU {m['iou']:.3f}"
