"""Image files decoded to other pixels.

*What goes wrong*
Loaders agree on ordinary photographs and differ on the rest: the EXIF tag that says "held upright", transparency,
16-bit gray, palettes, the inverted inks of Adobe's CMYK. The code around the target uses another loader.

*How it shows*
A few images are far off, turned, inverted, nearly white or with another background, and all others agree to the last
bit. On exactly the tensors that the source gets, the target answers like the source.

*Repair*
The source's way of decoding in the target's configuration: `ImageOps.exif_transpose`, `convert("RGB")` and the like.

*When not to apply*
No image is of the kind on which the loaders differ: nothing is wrong, and nothing is found. The samples are arrays:
then no file is known.

*Seen in*
PaddleDetection#1747; tensorflow#49834
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.recipes import DECODING, Policy, differences, left, sides, told
from fetafix.ir import Graph

CODE = "pp-decode"
_OTHERS: tuple[dict[str, Any], ...] = (
    {"orientation": "stored"}, {"alpha": "black"}, {"alpha": "white"}, {"gray16": "clip"}, {"palette": "codes"},
    {"cmyk": "inverted"},
)  # fmt: skip


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims recipes that decode otherwise, where that changes some of the samples."""
    if not isinstance(site, Interface) or site.refeed is None or site.healed(site.error):
        return
    changes = differences(site, DECODING)
    changed = _changed(site, changes) if changes else 0
    if changed:
        evidence = {**sides(site, changes), "samples_changed": changed,
                    "samples": len(next(iter(site.target_feeds.values())))}
        yield Suspicion(CODE, None, None, 0.96, evidence, f"image files are decoded otherwise: {told(site, changes)}",
                        Policy(changes, left(site, changes)))


def _changed(site: Interface, changes: dict[str, Any]) -> int:
    """How many of the samples are others once they are decoded so."""
    assert site.refeed is not None
    try:
        fed = site.refeed(changes)
    except FetafixError:
        return 0
    name = next(iter(site.target_feeds))
    return sum(not np.array_equal(a, b) for a, b in zip(fed[name], site.target_feeds[name], strict=True))


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's way of decoding."""
    yield [SetPreprocessing(suspicion.data.changes, next(iter(site.inputs), ""))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another decoding in the target's recipe: no graph sees the file."""
    return [SetPreprocessing(_OTHERS[int(rng.integers(len(_OTHERS)))])]


FAULT = FaultType(CODE, "Image files decoded otherwise", "PP", detect, propose, inject, scope="interface")
