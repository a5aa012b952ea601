"""Where two recipes of preparing images differ, and what is left of the inputs' difference once that is undone.

A site is both models as a whole; see `fetafix.faults.base.Interface`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.errors import FetafixError
from fetafix.graph.segment import layout_blind_error

DECODING = ("orientation", "alpha", "gray16", "palette", "cmyk")
RESAMPLER = ("interpolation", "antialias", "coordinates")
GEOMETRY = ("resize", "size_ratio", *RESAMPLER, "crop", "crop_ratio", "pad_value", "transpose_hw")
VALUES = ("color", "scale", "offset", "mean", "std")


@dataclass(frozen=True)
class Policy:
    """The fields to change; after: by how much the target's input then differs from the source's, as relative L2.

    Infinite where that proves nothing: another range may be meant to be.
    """

    changes: Mapping[str, Any]
    after: float


def differences(site: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The source's values of the fields in which the target's recipe differs; {} where a recipe is not known."""
    theirs, ours = site.preprocess
    if theirs is None or ours is None:
        return {}
    return {k: theirs[k] for k in fields if k in theirs and k in ours and not _equal(theirs[k], ours[k])}


def policies(site: Any, changes: Mapping[str, Any]) -> Iterator[Policy]:
    """The changes alone where values differ too (they may be meant to), then with those."""
    values = differences(site, VALUES)
    if values:
        yield Policy(changes, float("inf"))
    yield Policy({**changes, **values}, left(site, {**changes, **values}))


def left(site: Any, changes: Mapping[str, Any]) -> float:
    """How far the target's inputs are from the source's after the changes; inf where they cannot be made."""
    try:
        fed = site.refeed(changes)
    except FetafixError:
        return float("inf")
    pairs = ((fed.get(t), site.source_feeds.get(s)) for t, s in site.inputs.items())
    return max((layout_blind_error(a, b) for a, b in pairs if b is not None), default=float("inf"))


def told(site: Any, changes: Mapping[str, Any]) -> str:
    """The changes in words: "resize is exact, in the source shorter"."""
    return "; ".join(f"{k} is {_words(site.preprocess[1].get(k))}, in the source {_words(v)}"
                     for k, v in changes.items())


def sides(site: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Both recipes' values of the changed fields, for the report."""
    theirs, ours = site.preprocess
    return {"source": {k: theirs.get(k) for k in changes}, "target": {k: ours.get(k) for k in changes}}


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) if isinstance(a, str | bool) or isinstance(b, str | bool) else np.array_equal(a, b)


def _words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
