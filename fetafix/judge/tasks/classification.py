"""One score a class: the best class (top-1), the best five, and the ranks of the scores.

A sample agrees where top-1 does. Formulas and ties: `fetafix.judge.labels`; what is a classifier's: `judge.heads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.judge.heads import head
from fetafix.judge.labels import class_scores, labels
from fetafix.judge.tasks.base import OUTPUT, Claim, Limits, Observed, Rows, View, only, percent


class Classification:
    """Labels."""

    name = "classification"
    needs = "one score a class: (N, C), (N, C, 1, 1) or (N, 1, 1, C)"
    limits: Limits = {}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """Outputs whose head is a classifier's, surely or maybe."""
        found = []
        for v in views:
            if asked and class_scores(v.values) is not None:
                found.append(only(v, "asked", "it has one score a class"))
            elif not asked:
                h = head(v.name, v.values, v.alone, v.step)
                if h.classifier != "no":
                    found.append(only(v, h.classifier, h.why))
        return found

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Top-1, top-5 and tau; the numbers of classes may differ."""
        s, t = class_scores(source[OUTPUT]), class_scores(target[OUTPUT])
        if s is None or t is None or len(s) != len(t):
            return None
        found = labels(s, t, ties.get(OUTPUT, 0.0))
        both = found.top1.astype(np.float64), found.top5.astype(np.float64)
        kept = {"source": found.source, "target": found.target, "classes": np.full(len(s), found.classes)}
        return Observed({"top1": both[0], "top5": both[1], "tau": found.tau}, kept)

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Equal labels."""
        agreeing: NDArray[np.bool_] = seen.measures["top1"] > 0.0
        return agreeing

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Other labels."""
        return ~self.agree(seen, limits)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """A label stands for itself."""
        return True

    def likeness(self, seen: Observed) -> float:
        """The share of equal labels."""
        return seen.mean("top1")

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """top1; top5 of more than five classes; the mean tau where there is one."""
        made = {"top1": seen.mean("top1")}
        if seen.n and seen.kept["classes"].max() > 5:
            made["top5"] = seen.mean("top5")
        if np.isfinite(seen.measures["tau"]).any():
            made["kendall_tau"] = seen.mean("tau")
        return made

    def words(self, figures: Mapping[str, float]) -> str:
        """Top-1 and top-5."""
        five = f", top-5 {percent(figures['top5'])}" if "top5" in figures else ""
        return f"top-1 {percent(figures['top1'])}{five}"

    def answer(self, seen: Observed, i: int) -> str:
        """Both labels."""
        return f"source says {seen.kept['source'][i]}, target {seen.kept['target'][i]}"
