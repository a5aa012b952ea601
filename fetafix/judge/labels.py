"""Agreement of class scores: top-1 and top-5 labels, and rank correlation (Kendall's tau-b) on the scores.

Labels are compared between the models; no ground truth is involved.

Ties. Scores tie where they differ by at most `tie` (0: only where they are equal; a session passes the source's own
noise floor, since within it the source would change its own mind). Top-1 agrees if either model's label is among the
best of the other model. Top-5 agrees if top-1 does, or if the source's label is among the target's best five counted
pessimistically: labels that tie with it count as ranked before it. A model whose scores are all equal therefore agrees
with nobody but its like.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array

_ALL_PAIRS = 64
_BEST = 20


@dataclass(frozen=True, slots=True)
class Labels:
    """What was found sample by sample; `a + b` joins two chunks.

    source, target: the labels (arg max). top1, top5: whether they agree, as the module says. tau: rank correlation, NaN
    where a score is. classes: the number of classes of the source.
    """

    source: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    target: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    top1: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    top5: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    tau: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    classes: int = 0

    def __add__(self, other: Labels) -> Labels:
        return Labels(
            np.concatenate([self.source, other.source]), np.concatenate([self.target, other.target]),
            np.concatenate([self.top1, other.top1]), np.concatenate([self.top5, other.top5]),
            np.concatenate([self.tau, other.tau]), max(self.classes, other.classes),
        )

    @property
    def n(self) -> int:
        """Samples seen."""
        return len(self.top1)

    @property
    def mismatches(self) -> int:
        """Samples whose top-1 labels differ."""
        return self.n - int(self.top1.sum())

    @property
    def mean_tau(self) -> float | None:
        """Mean tau-b over the samples that have one."""
        known = self.tau[np.isfinite(self.tau)]
        return float(known.mean()) if known.size else None


def class_scores(output: Array) -> Array | None:
    """The output as (N, C) with C ≥ 2 where it is of shape (N, C), (N, C, 1, 1) or (N, 1, 1, C); else None."""
    if output.ndim == 4 and output.shape[2:] == (1, 1):
        output = output[:, :, 0, 0]
    elif output.ndim == 4 and output.shape[1:3] == (1, 1):
        output = output[:, 0, 0, :]
    fits = output.ndim == 2 and output.shape[1] >= 2 and output.dtype.kind in "fiu"
    return output if fits else None


def labels(source: Array, target: Array, tie: float = 0.0) -> Labels:
    """Compare scores (N, C) with (N, C′), any real dtype. Samples with a NaN in one model only disagree.

    C′ may differ from C (a lost background class): labels are then compared as they are, and tau over the classes in
    common.
    """
    s, t = np.asarray(source, np.float64), np.asarray(target, np.float64)
    broken_s, broken_t = np.isnan(s).any(1), np.isnan(t).any(1)
    s, t = np.where(np.isnan(s), -np.inf, s), np.where(np.isnan(t), -np.inf, t)
    rows = np.arange(len(s))
    of_s, of_t = s.argmax(1), t.argmax(1)
    top1 = (of_s == of_t) | (_among_best(s, of_t, tie) & _among_best(t, of_s, tie))
    top1 &= broken_s == broken_t
    own = t[rows, np.minimum(of_s, t.shape[1] - 1)]
    ahead = (t >= own[:, None]).sum(1)
    top5 = top1 | ((ahead <= 5) & (of_s < t.shape[1]) & (broken_s == broken_t))
    common = min(s.shape[1], t.shape[1])
    tau = kendall_tau(s[:, :common], t[:, :common])
    tau[broken_s | broken_t] = np.nan
    return Labels(of_s, of_t, top1, top5, tau, s.shape[1])


def _among_best(scores: Array, label: Array, tie: float) -> NDArray[np.bool_]:
    inside = label < scores.shape[1]
    chosen = scores[np.arange(len(scores)), np.where(inside, label, 0)]
    best: NDArray[np.bool_] = inside & (chosen >= scores.max(1) - tie)
    return best


def kendall_tau(source: Array, target: Array) -> NDArray[np.float64]:
    """Kendall's tau-b of each row of two (N, C) score arrays: (P − Q) / √((P + Q + T)(P + Q + U)).

    P and Q are concordant and discordant pairs of classes, T and U pairs tied in one model only (Kendall, Biometrika
    33, 1945). 1 where both rows are constant, 0 where one is. With more than 64 classes only the union of both models'
    20 best counts: the order of the hundreds of classes that nobody would name is rounding.
    """
    result = np.empty(len(source))
    for i, (s, t) in enumerate(zip(source, target, strict=True)):
        if len(s) > _ALL_PAIRS:
            best = np.zeros(len(s), np.bool_)
            best[np.argpartition(s, -_BEST)[-_BEST:]] = best[np.argpartition(t, -_BEST)[-_BEST:]] = True
            s, t = s[best], t[best]
        result[i] = _tau_b(s, t)
    return result


def _tau_b(s: Array, t: Array) -> float:
    order_s, order_t = _compare(s[:, None], s), _compare(t[:, None], t)  # each pair twice, which cancels out
    decided_s, decided_t = float(np.abs(order_s).sum()), float(np.abs(order_t).sum())
    if decided_s == 0.0 or decided_t == 0.0:
        return 1.0 if decided_s == decided_t else 0.0
    return float((order_s * order_t).sum()) / float(np.sqrt(decided_s * decided_t))


def _compare(a: Array, b: Array) -> Array:
    """Signs of a − b without inf − inf."""
    return (a > b).astype(np.float64) - (a < b)
