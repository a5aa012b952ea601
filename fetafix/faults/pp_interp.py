"""Images resized to the same size by another resampler.

*What goes wrong*
Pillow, OpenCV and TensorFlow mean different things by "bilinear": Pillow's kernel widens as the image shrinks
(antialias), OpenCV's and TensorFlow's samples four pixels whatever the factor, TensorFlow 1's is shifted by half a
pixel. A port of the preparing code that keeps the word changes the pixels.

*How it shows*
Inputs differ at edges and in fine texture and agree where an image is smooth; accuracy drops by half a point to a
point. On exactly the tensors that the source gets, the target answers like the source.

*Repair*
The source's interpolation, antialiasing and coordinates in the target's configuration.

*When not to apply*
Images come in the network's size, so that nothing is resampled; antialiasing where images are enlarged: a NO-OP. Size,
crop or padding differ too: pp-resize-crop sets all of it right.

*Seen in*
Pillow#2718; torchvision#2950; mlcommons/inference#201
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetPreprocessing
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.recipes import GEOMETRY, RESAMPLER, differences, policies, sides, told
from fetafix.ir import Graph

CODE = "pp-interp"
_OTHERS: tuple[dict[str, Any], ...] = (
    {"interpolation": "bilinear", "antialias": False}, {"interpolation": "bicubic"}, {"interpolation": "nearest"},
    {"interpolation": "bicubic", "antialias": False}, {"interpolation": "bilinear", "coordinates": "asymmetric"},
    {"interpolation": "bilinear", "coordinates": "align_corners"}, {"interpolation": "area"},
)  # fmt: skip


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims recipes of which only the resampler differs, where the models do not answer alike."""
    if not isinstance(site, Interface) or site.refeed is None or site.healed(site.error):
        return
    changes = differences(site, GEOMETRY)
    if not changes or set(changes) - set(RESAMPLER):
        return
    ours, theirs = (whose({k: recipe.get(k) for k in RESAMPLER}) for recipe in reversed(site.preprocess))
    text = f"images are resampled otherwise: {told(site, changes)}{_named(ours, theirs)}"
    for sure, policy in zip((0.95, 0.94), policies(site, changes), strict=False):
        yield Suspicion(CODE, None, None, sure, sides(site, changes), text, policy)


def whose(resampler: Mapping[str, Any]) -> str:
    """Whose resampling it is, in words; "" where no library is known for it."""
    name, coordinates = resampler.get("interpolation"), resampler.get("coordinates", "half_pixel")
    if coordinates != "half_pixel":
        return "TensorFlow 1" if name in ("bilinear", "bicubic", "nearest") else ""
    if name == "area":
        return "OpenCV's INTER_AREA"
    if name == "nearest":
        return ""
    return "Pillow, torchvision" if resampler.get("antialias", True) else "OpenCV, TensorFlow 2"


def _named(ours: str, theirs: str) -> str:
    return f" (as {ours} for {theirs})" if ours and theirs and ours != theirs else ""


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's resampler; with its range and colours where those differ too."""
    yield [SetPreprocessing(suspicion.data.changes, next(iter(site.inputs), ""))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another resampler in the target's recipe: no graph sees the image before."""
    return [SetPreprocessing(_OTHERS[int(rng.integers(len(_OTHERS)))])]


FAULT = FaultType(CODE, "Images resampled otherwise", "PP", detect, propose, inject, scope="interface")
