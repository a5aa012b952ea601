"""A class for every pixel: pixel agreement and mean IoU of the two class maps.

    IoU of a class = |both say it| / |either says it|      mean over the classes that either map holds

(M. Everingham et al., The Pascal Visual Object Classes challenge, IJCV 111 (2015) 98-136, section 4.2, with the source
in the place of the ground truth.) It is taken for each sample, to gate by, and over all pixels of all samples, as the
challenge does, for the report. Class maps come from scores (N, C, H, W) or (N, H, W, C) by their arg max, with ties as
for labels; from one mask (N, 1, H, W), (N, H, W, 1) or (N, H, W) by a threshold: 0.5 for probabilities, 0 for logits;
or they are put out as such, as integers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array
from fetafix.judge.tasks import scores
from fetafix.judge.tasks.base import (
    OUTPUT,
    Claim,
    Limits,
    Observed,
    Rows,
    View,
    alike,
    figure,
    only,
    percent,
    share,
    usable,
)

_NAMES = re.compile(r"seg|masks?(?![a-z])|pars(e|ing)|class_?map|label_?map")
_SCORES = re.compile(r"logit|score|class|prob|label|categor|softmax")
_OTHERS = re.compile(
    r"box|depth|flow|feature|hidden|embed|heat|attention|image|matte|alpha|saliency|keypoint|offset|anchor|padding")
_SMALLEST, _CLEARLY, _MOST_CLASSES = 8, 16, 1024


class Segmentation:
    """Class maps. limits: miou and pixels, the least mean IoU and share of equal pixels of a sample."""

    name = "segmentation"
    needs = "scores (N, C, H, W) or (N, H, W, C), a mask (N, H, W) or with one channel, or an integer class map"
    limits: Limits = {"miou": 0.9, "pixels": 0.98}

    def claim(self, views: Sequence[View], asked: bool) -> list[Claim]:
        """Images of classes, by name or by content."""
        return [c for v in usable(views) if (c := _asked(v) if asked else _recognised(v)) is not None]

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Shares of equal pixels, mean IoU, and the counts that make it up by class."""
        if not alike(source, target):
            return None
        s, t = maps(source[OUTPUT], target[OUTPUT], claim.facts, ties.get(OUTPUT, 0.0))
        both, either = counts(s, t)
        broken = np.isnan(_floats(source[OUTPUT])).any(1) != np.isnan(_floats(target[OUTPUT])).any(1)
        measures = {"miou": np.where(broken, 0.0, mean_iou(both, either)),
                    "pixels": np.where(broken, 0.0, share(s == t))}
        return Observed(measures, {"both": both, "either": either})

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Enough equal pixels, and enough of every class."""
        enough: NDArray[np.bool_] = (seen.measures["miou"] >= limits["miou"]) & (
            seen.measures["pixels"] >= limits["pixels"])
        return enough

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Those that disagree."""
        return ~self.agree(seen, limits)

    def final(self, seen: Observed, limits: Limits) -> bool:
        """A map stands for itself."""
        return True

    def likeness(self, seen: Observed) -> float:
        """The mean IoU, mean over the samples."""
        return seen.mean("miou")

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """Mean IoU over all pixels of all samples, that of the worst sample, and the share of equal pixels."""
        both, either = (seen.kept[k].sum(0, keepdims=True) for k in ("both", "either"))
        return {"miou": float(mean_iou(both, either)[0]), "worst_miou": float(seen.measures["miou"].min(initial=1.0)),
                "pixels": seen.mean("pixels")}

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures."""
        return (f"mean IoU {figure(figures['miou'])} (worst sample {figure(figures['worst_miou'])}), "
                f"{percent(figures['pixels'], 2)} of the pixels equal")

    def answer(self, seen: Observed, i: int) -> str:
        """Both figures of the sample."""
        return f"mean IoU {seen.measures['miou'][i]:.3f}, {percent(seen.measures['pixels'][i], 2)} of the pixels equal"


def maps(source: Array, target: Array, facts: Mapping[str, Any], tie: float) -> tuple[Array, Array]:
    """The class maps of two outputs, int64 (N, H, W). facts: "axis" of the classes, "threshold", or neither."""
    if facts.get("axis") is not None:
        return scores.best(source, target, int(facts["axis"]), tie)
    if facts.get("threshold") is not None:
        return scores.halves(source, target, float(facts["threshold"]), tie)
    return source.astype(np.int64), target.astype(np.int64)


def counts(source: Array, target: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By sample and class, how many pixels both call so and how many either does: two int64 (N, C).

    Class ids beyond 0…1023 are counted as one of the ends.
    """
    n = len(source)
    s, t = (np.clip(a.reshape(n, -1), 0, _MOST_CLASSES - 1) for a in (source, target))
    classes = int(max(s.max(initial=0), t.max(initial=0))) + 1
    rows = np.arange(n)[:, None] * classes

    def tally(ids: Array) -> NDArray[np.int64]:
        return np.bincount(ids.ravel(), minlength=n * classes).reshape(n, classes)

    equal = s == t
    both = tally((rows + s)[equal])
    return both, tally(rows + s) + tally(rows + t) - both


def mean_iou(both: Array, either: Array) -> NDArray[np.float64]:
    """Mean over the classes of each row that has any pixel of them: float64[N]; 1 for rows without pixels."""
    there = either > 0
    iou = np.where(there, both / np.maximum(either, 1), 0.0)
    made: NDArray[np.float64] = np.where(there.any(1), iou.sum(1) / np.maximum(there.sum(1), 1), 1.0)
    return made


def _floats(values: Array) -> Array:
    flat = values.reshape(len(values), -1)
    return flat if flat.dtype.kind == "f" else np.zeros((len(flat), 1))


def _class_axis(values: Array) -> int | None:
    """Which of axes 1 and 3 holds the classes: where they sum to 1, else the clearly smallest one."""
    if values.ndim != 4:
        return None
    sure = [a for a in (1, 3) if scores.sums_to_one(values, a)]
    if len(sure) == 1:
        return sure[0]
    _, a, h, b = values.shape
    return 1 if 2 <= a < min(h, b) else 3 if 2 <= b < min(a, h) else None


def _plane(values: Array) -> tuple[int, ...] | None:
    """Height and width of a mask without classes, or of scores; None where it is no image."""
    if values.ndim == 3:
        return values.shape[1:]
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):
        return values.shape[2:] if values.shape[1] == 1 else values.shape[1:3]
    axis = _class_axis(values)
    return None if axis is None else values.shape[2:] if axis == 1 else values.shape[1:3]


def _facts(values: Array) -> dict[str, Any]:
    if values.dtype.kind in "iub":
        return {}
    axis = None if values.ndim == 3 or 1 in (values.shape[1], values.shape[3]) else _class_axis(values)
    return {"axis": axis} if axis is not None else {"threshold": 0.5 if scores.within_unit(values) else 0.0}


def _asked(view: View) -> Claim | None:
    fits = view.values.dtype.kind in "fiub" and _plane(view.values) is not None
    return only(view, "asked", "every pixel has a class", **_facts(view.values)) if fits else None


def _recognised(view: View) -> Claim | None:
    values, name = view.values, view.name.lower()
    plane = _plane(values) if values.dtype.kind in "fiub" else None
    if plane is None or min(plane) < _SMALLEST or (_OTHERS.search(name) and not _NAMES.search(name)):
        return None
    facts = _facts(values)
    named = bool(_NAMES.search(name))
    if not facts:
        wide = values.dtype.itemsize > 1 and values.dtype.kind in "iu" and min(plane) >= _CLEARLY
        sure = named or (wide and values.min() >= 0 and values.max() < 256)
        return only(view, "yes", "it holds a whole number a pixel, as class maps do") if sure else None
    if "threshold" in facts:
        return _mask(view, named, facts)
    attention = facts["axis"] == 3 and values.shape[2] == values.shape[3]  # weights, which sum to 1 as well
    if scores.sums_to_one(values, facts["axis"]) and not attention:
        return only(view, "yes", "each pixel's scores are probabilities that sum to 1", **facts)
    if named or (view.alone and _SCORES.search(name)):
        return only(view, "yes", f"it has scores for every pixel and is named {view.name!r}", **facts)
    return only(view, "maybe", "it has the shape of scores for every pixel, but is not named so", **facts)


def _mask(view: View, named: bool, facts: Mapping[str, Any]) -> Claim | None:
    """A single plane is a mask where it is named so, and maybe one where it is nearly 0 or 1 everywhere."""
    if named:
        return only(view, "yes", f"it has one value a pixel and is named {view.name!r}", **facts)
    decided = facts["threshold"] == 0.5 and np.mean(np.abs(view.values - 0.5) > 0.4) > 0.9
    return only(view, "maybe", "nearly all of its pixels are 0 or 1, as those of masks", **facts) if decided else None
