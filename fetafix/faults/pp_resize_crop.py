"""Images resized or cropped by another policy.

*What goes wrong*
One framework's recipe squashes an image to the network's size, another's resizes its shorter side to 256/224 of that
and cuts out the centre; or the target's interpolation, crop or padding is another. Range and mean often differ as well,
where somebody takes the whole recipe from the target framework's documentation.

*How it shows*
Inputs differ by a zoom and a shift, so no map of values explains them; accuracy drops by a few points. On exactly the
tensors that the source gets, the target answers like the source.

*Repair*
The source's policy in the target's configuration; its range and colour order as well where those differ.

*When not to apply*
Source and target are fed with tensors that were prepared before: then no policy is known. Another size of the network's
input is a fault of its dimensions (id-size). Where the target answers alike under its own policy, nothing is wrong.

*Seen in*
keras-applications' squash against torchvision's Resize(256) and CenterCrop(224); central_crop(0.875) of TF-Slim;
torchvision#2950 (antialias)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion, layout_blind_error
from fetafix.ir import Graph

CODE = "pp-resize-crop"
_GEOMETRY = ("resize", "size_ratio", "interpolation", "antialias", "crop", "crop_ratio", "pad_value", "transpose_hw")
_VALUES = ("color", "scale", "offset", "mean", "std")


@dataclass(frozen=True)
class Policy:
    """The fields to change; after: by how much the target's input then differs from the source's, as relative L2.

    Infinite where that proves nothing: another range may be meant to be.
    """

    changes: Mapping[str, Any]
    after: float


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims recipes whose geometry differs, where the models do not answer alike."""
    if not isinstance(site, Interface) or site.refeed is None or site.healed(site.error):
        return
    theirs, ours = site.preprocess
    changes = {} if theirs is None or ours is None else _differences(theirs, ours, _GEOMETRY)
    if theirs is None or ours is None or not changes:
        return
    values = _differences(theirs, ours, _VALUES)
    told = "; ".join(f"{k} is {_words(ours.get(k))}, in the source {_words(v)}" for k, v in changes.items())
    evidence = {"source": {k: theirs.get(k) for k in changes}, "target": {k: ours.get(k) for k in changes}}
    text = f"images are brought to the target's size by another policy: {told}"
    whole = {**changes, **values}
    if values:
        yield Suspicion(CODE, None, None, 0.9, evidence, text, Policy(changes, float("inf")))
    yield Suspicion(CODE, None, None, 0.89 if values else 0.9, evidence, text, Policy(whole, _left(site, whole)))


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's geometry, or its whole recipe."""
    yield [SetPreprocessing(suspicion.data.changes, next(iter(site.inputs), ""))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """No place: the geometry is settled before any graph sees the image."""
    return None


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The source's values of the fields in which the target's recipe differs."""
    return {k: theirs[k] for k in fields if k in theirs and k in ours and not _equal(theirs[k], ours[k])}


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) if isinstance(a, str | bool) or isinstance(b, str | bool) else np.array_equal(a, b)


def _left(site: Interface, changes: Mapping[str, Any]) -> float:
    assert site.refeed is not None
    try:
        fed = site.refeed(changes)
    except FetafixError:
        return float("inf")
    pairs = ((fed.get(t), site.source_feeds.get(s)) for t, s in site.inputs.items())
    return max((layout_blind_error(a, b) for a, b in pairs if b is not None), default=float("inf"))


def _words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


FAULT = FaultType(CODE, "Images resized or cropped by another policy", "PP", detect, propose, inject, scope="interface")
