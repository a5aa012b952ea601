"""A vector that is looked up by its neighbours: direction, length, and which other sample is the nearest.

    cosine      ⟨s, t⟩ / (‖s‖ ‖t‖)                                         of a sample's two vectors
    length      ‖t‖ / ‖s‖ − 1, 0 where both are 0
    neighbour   cosine(s_i, s_best) − cosine(s_i, s_found)                  what the target's nearest neighbour of
                                                                            sample i is worse by in the source
    spearman    rank correlation of the similarities of sample i to all others, in the source and in the target
                (C. Spearman, American Journal of Psychology 15 (1904) 72-101; ties get their mean rank)

Neighbours are looked for among the samples of the run, so they are only known once all have been seen. The loss is
measured in both models and the larger one counts: samples that are equally near to one model may change places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge.heads import head
from fetafix.judge.labels import class_scores
from fetafix.judge.tasks.base import OUTPUT, Claim, Limits, Observed, Rows, View, alike, figure, only, percent, usable

_NAMES = re.compile(r"embed|feature|descriptor|latent|represent")
_LEAST = 8
_SAMPLES = 512  # of which neighbours are looked for


class Embedding:
    """Vectors. limits: the least cosine, the largest share by which the length may be off, the largest loss of
    similarity by another neighbour, and the least rank correlation (−1: not asked for).
    """

    name = "embedding"
    needs = "one vector a sample: (N, D), (N, D, 1, 1) or (N, 1, 1, D)"
    limits: Limits = {"cosine": 0.99, "length": 0.05, "neighbour": 0.01, "spearman": -1.0}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """Vectors of unit length, or named as embeddings are, that are no classifier's scores."""
        return [c for v in usable(views) if class_scores(v.values) is not None and v.values.dtype.kind == "f"
                if (c := only(v, "asked", "it has one vector a sample") if asked else _recognised(v)) is not None]

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Cosine and length; the vectors are kept for their neighbours."""
        s, t = class_scores(source[OUTPUT]), class_scores(target[OUTPUT])
        if s is None or t is None or not alike(source, target):
            return None
        first, second = _unit(s), _unit(t)
        a, b = first[1], second[1]
        equal = (a == 0.0) & (b == 0.0)
        cosine = np.where(equal, 1.0, (first[0] * second[0]).sum(1))
        with np.errstate(invalid="ignore"):
            length = np.where(equal, 0.0, np.abs(b - a) / np.where(a > 0.0, a, np.maximum(b, 1e-300)))
        kept = {"source": first[0].astype(np.float32), "target": second[0].astype(np.float32)}
        return Observed({"cosine": np.nan_to_num(cosine, nan=-1.0), "length": np.nan_to_num(length, nan=np.inf)}, kept)

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Near enough in direction and length, with the same neighbours."""
        loss, rank = neighbours(seen.kept["source"], seen.kept["target"])
        fine: NDArray[np.bool_] = ~self.lost(seen, limits) & (loss <= limits["neighbour"]) & (
            rank >= limits["spearman"] - 1e-9)
        return fine

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Direction or length are off, whoever the neighbours are."""
        off: NDArray[np.bool_] = (seen.measures["cosine"] < limits["cosine"]) | (
            seen.measures["length"] > limits["length"])
        return off

    def final(self, seen: Observed, limits: Limits) -> bool:
        """A further sample may be nearer than those seen."""
        return False

    def likeness(self, seen: Observed) -> float:
        """The mean cosine, at least 0."""
        return max(0.0, seen.mean("cosine"))

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """Mean and least cosine, the largest error of length; the share of equal neighbours, the mean correlation."""
        made = {"cosine": seen.mean("cosine"), "worst_cosine": float(seen.measures["cosine"].min(initial=1.0)),
                "length": float(seen.measures["length"].max(initial=0.0))}
        if seen.n > 2:
            loss, rank = neighbours(seen.kept["source"], seen.kept["target"])
            made |= {"neighbours": float((loss <= limits["neighbour"]).mean()), "spearman": float(rank.mean())}
        return made

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures that there are."""
        cosine, least = (figure(figures[k], 5) for k in ("cosine", "worst_cosine"))
        text = f"cosine {cosine} (least {least}), length off by up to {figures['length']:.2%}"
        return text if "neighbours" not in figures else (
            f"{text}, {percent(figures['neighbours'])} keep their nearest neighbour, Spearman's rho "
            f"{figure(figures['spearman'])}")

    def answer(self, seen: Observed, i: int) -> str:
        """How the two vectors lie."""
        return f"cosine {seen.measures['cosine'][i]:.5f}, length off by {seen.measures['length'][i]:.2%}"


def _recognised(view: View) -> Claim | None:
    scores = class_scores(view.values)
    assert scores is not None
    if scores.shape[1] < _LEAST or head(view.name, view.values, view.alone, view.step).classifier != "no":
        return None
    if np.allclose(np.linalg.norm(np.asarray(scores, np.float64), axis=1), 1.0, atol=1e-3):
        return only(view, "yes", "each row has unit length, as embeddings have")
    if _NAMES.search(view.name.lower()):
        return only(view, "yes", f"it has one vector a sample and is named {view.name!r}")
    if float(scores.min()) == 0.0:
        return only(view, "maybe", "its values are never negative and often 0, as features behind a ReLU are")
    return None


def _unit(rows: Array) -> tuple[Array, Array]:
    """Rows of unit length, and their lengths: float64 (N, D) and (N,). Rows of zeros stay as they are."""
    numbers = np.asarray(rows, np.float64)
    length = np.linalg.norm(numbers, axis=1)
    return numbers / np.where(length > 0.0, length, 1.0)[:, None], length


def neighbours(source: Array, target: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(loss by the other model's nearest neighbour, Spearman's rho of the similarities) by sample: float64[N] each.

    source, target: rows of unit length (N, D). With fewer than three samples there is nothing to rank: losses of 0, rho
    of 1. Neighbours are looked for among the first 512 samples.
    """
    n = len(source)
    if n < 3:
        return np.zeros(n), np.ones(n)
    of_s, of_t = (np.nan_to_num(_others(np.asarray(a, np.float64))) for a in (source, target))
    rows = np.arange(n)
    best_s, best_t = of_s.argmax(1), of_t.argmax(1)
    loss = np.maximum(of_s[rows, best_s] - of_s[rows, best_t], of_t[rows, best_t] - of_t[rows, best_s])
    own = rows < of_s.shape[1]
    rho = np.array([spearman(np.delete(s, i) if o else s, np.delete(t, i) if o else t)
                    for i, (s, t, o) in enumerate(zip(of_s, of_t, own, strict=True))])
    return loss, rho


def _others(rows: Array) -> Array:
    """Similarities of every row to the first few, with −2 for a row and itself."""
    made = rows @ rows[:_SAMPLES].T
    few = np.arange(made.shape[1])
    made[few, few] = -2.0
    return made


def spearman(a: Array, b: Array) -> float:
    """Spearman's rho of two vectors of equal size: Pearson's correlation of their ranks, ties with their mean rank.

    1 where both are constant, 0 where one is.
    """
    first, second = (r - r.mean() for r in (_ranks(a), _ranks(b)))
    scale = float(np.sqrt((first @ first) * (second @ second)))
    if scale == 0.0:
        return 1.0 if not first.any() and not second.any() else 0.0
    return float(first @ second) / scale


def _ranks(values: Array) -> Array:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2.0)[inverse]
