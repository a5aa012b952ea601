"""Images resized or cropped by another policy.

*What goes wrong*
One framework's recipe squashes an image to the network's size, another's resizes its shorter side to 256/224 of that
and cuts out the centre; or the target's crop or padding is another, or it resizes twice. Range and mean often differ as
well, where somebody takes the whole recipe from the target framework's documentation.

*How it shows*
Inputs differ by a zoom and a shift, so no map of values explains them; accuracy drops by a few points. On exactly the
tensors that the source gets, the target answers like the source.

*Repair*
The source's policy in the target's configuration; its range and colour order as well where those differ.

*When not to apply*
Source and target are fed with tensors that were prepared before: then no policy is known. Another size of the network's
input is a fault of its dimensions (id-size). Only the resampler differs: pp-interp. Where the target answers alike
under its own policy, nothing is wrong.

*Seen in*
keras-applications' squash against torchvision's Resize(256) and CenterCrop(224); central_crop(0.875) of TF-Slim
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetPreprocessing
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.recipes import GEOMETRY, RESAMPLER, differences, policies, sides, told
from fetafix.ir import Graph

CODE = "pp-resize-crop"
_OTHERS: tuple[dict[str, Any], ...] = (
    {"resize": "exact", "crop": "none"}, {"resize": "shorter", "size_ratio": 256 / 224, "crop": "center"},
    {"resize": "exact", "crop": "ratio", "crop_ratio": 0.875}, {"resize": "longer", "crop": "none"},
)  # fmt: skip


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims recipes whose geometry differs, where the models do not answer alike."""
    if not isinstance(site, Interface) or site.refeed is None or site.healed(site.error):
        return
    changes = differences(site, GEOMETRY)
    if not set(changes) - set(RESAMPLER):
        return
    text = f"images are brought to the target's size by another policy: {told(site, changes)}"
    for sure, policy in zip((0.9, 0.89), policies(site, changes), strict=False):
        yield Suspicion(CODE, None, None, sure, sides(site, changes), text, policy)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's geometry, or its whole recipe."""
    yield [SetPreprocessing(suspicion.data.changes, next(iter(site.inputs), ""))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another policy in the target's recipe: the geometry is settled before any graph sees the image."""
    return [SetPreprocessing(_OTHERS[int(rng.integers(len(_OTHERS)))])]


FAULT = FaultType(CODE, "Images resized or cropped by another policy", "PP", detect, propose, inject, scope="interface")
