"""Which outputs of a model make up its detections, and how they are to be read.

Facts of a claim: "centre" (boxes are centre and size, not two corners), "reading" of the scores ("as they are",
"sigmoid", "softmax"), "nothing" (the class that stands for background, or None), and for detections that come in rows
of one output "rows": "chosen" (corners, score, class), "objectness" (box, objectness, a score a class; YOLOv5) or
"classes" (box, a score a class, the candidates along the last axis; YOLOv8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.ir import Array
from fetafix.judge.tasks import scores
from fetafix.judge.tasks.base import Claim, Rows, Sure, View, plain
from fetafix.judge.tasks.boxes import Detections, corners

_BOXES = re.compile(r"box|loc(?![a-z])|location|rect|roi")
_SCORES = re.compile(r"score|conf|prob|logit|class|cls|label")
_MOST = 0.98  # of the boxes have to be ones
_FAINT = 0.05


def group(views: Sequence[View], asked: bool) -> Claim | None:
    """The outputs that belong together; None where there are none, or it is not clear which."""
    views = [replace(v, values=plain(v.values)) for v in views if v.values.size]
    boxes = _boxes(views)
    if boxes is None:
        return _rows(views) if asked and len(views) == 1 else None
    rest = [v for v in views if v is not boxes and v.values.shape[:1] == boxes.values.shape[:1]]
    roles = _roles(boxes.values.shape[1], rest)
    if "scores" not in roles:
        return None
    form = _form(boxes.values)
    if form is None and not asked:
        return None
    facts = {"centre": form == "centre", **_reading(roles["scores"].values)}
    named = {role: v.name for role, v in {"boxes": boxes, **roles}.items()}
    sure = "asked" if asked else _sure(boxes, roles["scores"], facts)
    of = "two corners" if form != "centre" else "centre and size"
    return Claim(named, sure, f"boxes ({of}) of {boxes.name!r} come with scores in {roles['scores'].name!r}", facts)


def read(rows: Rows, i: int, facts: Mapping[str, Any]) -> Detections:
    """The detections of one sample, chosen or candidates, in the order in which they come; NaN scores are −inf."""
    if "rows" in facts:
        return _from_rows(np.asarray(rows["rows"][i], np.float64), facts)
    marks, classes = _marks(np.asarray(rows["scores"][i], np.float64), facts)
    if "classes" in rows:
        classes = np.nan_to_num(np.asarray(rows["classes"][i], np.float64)).round().astype(np.int64)
    if "count" in rows:
        count = float(np.asarray(rows["count"][i], np.float64).ravel()[0])
        marks = np.where(np.arange(len(marks)) < count, marks, -np.inf)
    return Detections(np.nan_to_num(corners(rows["boxes"][i], facts["centre"])), _finite(marks), classes)


def _finite(marks: Array) -> Array:
    return np.where(np.isnan(marks), -np.inf, marks)


def _boxes(views: Sequence[View]) -> View | None:
    fits = [v for v in views if v.values.ndim == 3 and v.values.shape[2] == 4 and v.values.dtype.kind == "f"]
    named = [v for v in fits if _BOXES.search(v.name.lower())]
    chosen = named or [v for v in fits if not _SCORES.search(v.name.lower())]
    return chosen[0] if len(chosen) == 1 else None


def _roles(count: int, rest: Sequence[View]) -> dict[str, View]:
    """Scores, classes and count among the other outputs of a model with `count` boxes a sample; each at most once."""
    wide = [v for v in rest if v.values.ndim == 3 and v.values.shape[1] == count and v.values.dtype.kind == "f"]
    if wide:
        named = [v for v in wide if _SCORES.search(v.name.lower())] or wide
        return {"scores": named[0]} if len(named) == 1 else {}
    flat = [v for v in rest if v.values.ndim == 2 and v.values.shape[1] == count and v.values.dtype.kind in "fiu"]
    marks = [v for v in flat if v.values.dtype.kind == "f" and not _whole(v.values)]
    ids = [v for v in flat if v not in marks and _whole(v.values)]
    counts = [v for v in rest if v.values[:1].size == 1 and v not in flat and _whole(v.values)
              and v.values.min() >= 0 and v.values.max() <= count]
    if len(marks) != 1:
        return {}
    found = {"scores": marks, "classes": ids, "count": counts}
    return {role: fitting[0] for role, fitting in found.items() if len(fitting) == 1}


def _whole(values: Array) -> bool:
    return values.dtype.kind in "iu" or bool(values.dtype.kind == "f" and (values == np.round(values)).all())


def _form(boxes: Array) -> str | None:
    """"corners" or "centre", whichever nearly all boxes can be, some of them with an area; else None."""
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    rows = rows[np.isfinite(rows).all(1)]
    sides = rows[:, 2:] - rows[:, :2]
    if not len(rows):
        return None
    if (sides >= 0).all(1).mean() >= _MOST and (sides > 0).all(1).any():
        return "corners"
    return "centre" if (rows[:, 2:] >= 0).all(1).mean() >= _MOST and (rows[:, 2:] > 0).all(1).any() else None


def _reading(values: Array) -> dict[str, Any]:
    """How scores are read. Background is the class that most candidates are, where their scores exclude each other."""
    unit = scores.within_unit(values)
    if values.ndim == 2 or values.shape[2] == 1:
        return {"reading": "as they are" if unit else "sigmoid", "nothing": None}
    if unit and not scores.sums_to_one(values, 2):
        return {"reading": "as they are", "nothing": None}
    best = np.bincount(np.nan_to_num(values).argmax(2).ravel(), minlength=values.shape[2])
    common = int(best.argmax()) if best.max() > 0.5 * best.sum() else None
    if unit:
        return {"reading": "as they are", "nothing": common}
    return {"reading": "sigmoid" if common is None else "softmax", "nothing": common}


def _marks(values: Array, facts: Mapping[str, Any]) -> tuple[Array, Array]:
    """(score, class) of every box of a sample, from scores (K,) or (K, C)."""
    chances = values
    if facts["reading"] == "sigmoid":
        chances = 0.5 * (1.0 + np.tanh(0.5 * values))
    elif facts["reading"] == "softmax":
        power = np.exp(values - values.max(-1, keepdims=True))
        chances = power / power.sum(-1, keepdims=True)
    if chances.ndim == 1:
        return chances, np.zeros(len(chances), np.int64)
    if facts["nothing"] is not None:
        chances = chances.copy()
        chances[:, facts["nothing"]] = -np.inf
    return chances.max(1), chances.argmax(1)


def _sure(boxes: View, marks: View, facts: Mapping[str, Any]) -> Sure:
    """Sure where the scores are probabilities or named so, and anything is detected at all."""
    seen = max(float(np.nanmax(_marks(np.asarray(m, np.float64), facts)[0], initial=0.0)) for m in marks.values)
    chances = facts["reading"] == "as they are"
    named = _BOXES.search(boxes.name.lower()) and _SCORES.search(marks.name.lower())
    return "yes" if seen > _FAINT and (chances or named) else "maybe"


def _rows(views: Sequence[View]) -> Claim | None:
    """One output with everything in it, for whoever says that it holds detections."""
    values = views[0].values
    if values.ndim != 3 or values.dtype.kind != "f" or min(values.shape[1:]) < 5:
        return None
    last = values.shape[2] <= values.shape[1]
    if last and values.shape[2] == 6 and _whole(values[..., 5]):
        kind, table = "chosen", values
    else:
        kind, table = ("objectness", values) if last else ("classes", values.transpose(0, 2, 1))
    reading = "as they are" if scores.within_unit(table[..., 4:5 if kind == "chosen" else None]) else "sigmoid"
    facts = {"rows": kind, "centre": kind != "chosen" and _form(table[..., :4]) == "centre", "reading": reading,
             "nothing": None}
    return Claim({"rows": views[0].name}, "asked", f"it holds rows of a box and its scores ({kind})", facts)


def _from_rows(table: Array, facts: Mapping[str, Any]) -> Detections:
    table = table.T if facts["rows"] == "classes" else table
    boxes = np.nan_to_num(corners(table[:, :4], facts["centre"]))
    if facts["rows"] == "chosen":
        return Detections(boxes, _finite(table[:, 4]), np.nan_to_num(table[:, 5]).round().astype(np.int64))
    plain, _ = _marks(table[:, 4], facts)
    if facts["rows"] == "classes" or table.shape[1] == 5:
        marks, classes = _marks(table[:, 4:], facts)
        return Detections(boxes, _finite(marks), classes)
    marks, classes = _marks(table[:, 5:], facts)
    return Detections(boxes, _finite(plain * marks), classes)
