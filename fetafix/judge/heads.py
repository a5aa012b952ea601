"""Is an output a classifier's head? Decided by its signature and by what it holds, never by the model's name.

The answer sets the default gate: labels for classifiers; for everything else see `fetafix.judge.tasks`. "yes" needs
evidence; "maybe" (class scores by shape only) still gets label figures, but is gated by numbers, the stricter way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fetafix.ir import Array
from fetafix.judge.labels import class_scores

_CLASS_NAMES = re.compile(r"prob|logit|class|softmax|score|label|predict|categor")
_OTHER_NAMES = re.compile(
    r"box|landmark|regress|embed|feature|hidden|state|depth|pose|angle|mask|coord|keypoint|offset"
)
_FEW = 8
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Head:
    """Whether an output is a classifier's head, and why that is believed."""

    classifier: Literal["yes", "maybe", "no"]
    why: str


def head(name: str, output: Array, alone: bool = True, step: float = 0.0) -> Head:
    """Judge an output by the source's values on some samples, any dtype, samples along axis 0.

    Rows that sum to 1 are probabilities, as far as rounding to codes goes (`step`: what one is worth). Three or more
    unnormalised columns are taken for logits, unless they look like features (unit length, or never negative with many
    zeros), like a few coordinates (up to 8 columns that differ more from each other than any varies), are named so, or
    are not `alone`: of several outputs some are rarely logits, and which is a guess. Two columns are logits if one
    falls when the other rises.
    """
    scores = class_scores(output)
    if scores is None:
        return Head("no", f"its shape {list(output.shape)} is not one score a class")
    if scores.dtype.kind in "iu" and scores.dtype.itemsize > 1:
        return Head("no", f"it holds {scores.dtype} values")
    values = np.asarray(scores, np.float64)
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        return Head("maybe", "it has the shape of class scores, but holds no finite sample")
    return _by_content(values, step) or _by_name(name) or _by_spread(values, alone)


def _by_content(values: Array, step: float) -> Head | None:
    if _probabilities(values, step):
        return Head("yes", "each row holds probabilities that sum to 1")
    if values.shape[1] > 2 and np.allclose(np.linalg.norm(values, axis=1), 1.0, atol=1e-3):
        return Head("no", "each row has unit length, as embeddings have")
    if values.shape[1] > 2 and values.min() == 0.0 and np.mean(values == 0.0) > 0.05 and values.max() > 0.0:
        return Head("no", "its values are never negative and often 0, as features behind a ReLU are")
    return None


def _probabilities(values: Array, step: float) -> bool:
    """Rounding moves each number by half a code at most; what is below that is lost, but not most of a row."""
    lost, added = step / 2 * values.shape[1], step / 2 * np.count_nonzero(values, axis=1)
    sums = values.sum(1)
    least = max(1.0 - 1e-2 - lost, _MOST)
    return bool(values.min() >= -1e-6 and (sums >= least).all() and (sums <= 1.0 + 1e-2 + added).all())


def _by_name(name: str) -> Head | None:
    if _OTHER_NAMES.search(name.lower()):
        return Head("no", f"it is named {name!r}")
    if _CLASS_NAMES.search(name.lower()):
        return Head("yes", f"it has one score a class and is named {name!r}")
    return None


def _by_spread(values: Array, alone: bool) -> Head:
    classes = values.shape[1]
    if not alone:
        return Head("maybe", f"it holds {classes} numbers a sample, beside other outputs")
    if classes == 2:
        opposed = len(values) >= 6 and _correlation(values[:, 0], values[:, 1]) < -0.5
        if opposed:
            return Head("yes", "its two columns move against each other, as the logits of two classes do")
        return Head("maybe", "it has two columns, which need not be classes")
    if classes <= _FEW and len(np.unique(values.argmax(1))) == 1 and _between(values) > 0.9:
        return Head("maybe", f"its {classes} columns differ more from each other than any varies, as coordinates do")
    return Head("yes", f"it holds {classes} scores a sample")


def _correlation(a: Array, b: Array) -> float:
    if a.std() == 0.0 or b.std() == 0.0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _between(values: Array) -> float:
    """The share of the variance that lies between the columns' means."""
    total = float(values.var())
    return float(values.mean(0).var()) / total if total > 0.0 else 0.0
