"""The input normalised by another mean or standard deviation.

*What goes wrong*
Source and target are fed with different per-channel normalisation (ImageNet's, caffe's, none), or the normalisation
nodes baked into one of them hold other constants, are lost, or doubled.

*How it shows*
The inputs are per-channel affine images of each other; accuracy drops by a few points. The target's first linear layer
answers like the source's as soon as each channel is scaled and shifted by its own numbers.

*Repair*
The right mean and std in the configuration; or the baked Sub, Div, Mul or Add corrected, removed or inserted.

*When not to apply*
The normalisation is folded into the first layer without padding: it answers the same, a NO-OP. Folded into a
zero-padded layer, the border stays wrong and no normalisation explains it (pp-mean-folded). One std for all channels,
or the shift on the wrong side of the scaling: pp-scalar-std.

*Seen in*
insightface#2508; onnx#1440; ncnn#1472
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.inputfix import describe, evidence, fixes, maps, reader
from fetafix.graph.inputkind import kind
from fetafix.graph.inputnodes import by_channel
from fetafix.graph.inputplaces import New, inserted, places, retuned
from fetafix.ir import Array, Graph

CODE = "pp-mean-std"
_MEAN, _STD = np.array([0.485, 0.456, 0.406, 0.44]), np.array([0.229, 0.224, 0.225, 0.226])


def detect(site: Any) -> Iterator[Suspicion]:
    """Claims the maps that scale each channel by its own numbers."""
    for found in maps(site) if not site.healed(site.error) else ():
        if kind(site, found) == "channels":
            sure = (0.95 if not found.reordered and not found.swapped else 0.92) + (0.02 if found.naming else 0.0)
            yield Suspicion(CODE, reader(site, found), None, sure, evidence(found), describe(found), found)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The complete fix, in all its forms."""
    yield from fixes(site, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A normalisation too many or too few at an image input, or the constants of the existing one disturbed."""
    able = [p for p in places(graph) if p.axis is not None]
    if not able:
        return None
    place = able[int(rng.integers(len(able)))]
    n = place.channels

    def disturbed(constant: Array) -> Array | None:
        return None if constant.size == 1 else np.roll(constant, 1, int(np.argmax(constant.shape)))

    existing = retuned(graph, place, rng, disturbed)
    if existing and rng.random() < 0.5:
        return existing
    shape = by_channel(n, place.axis, place.rank) if n > 1 else (1,)
    mean, std = (v[:n].reshape(shape).astype(place.dtype) for v in (_MEAN, _STD))
    ways: tuple[list[New], ...] = (
        [("Sub", {}, mean), ("Div", {}, std)], [("Sub", {}, mean)], [("Mul", {}, std)],
        [("Mul", {}, std), ("Add", {}, mean)])
    return inserted(graph, place, ways[int(rng.integers(len(ways)))])


FAULT = FaultType(CODE, "Input normalised by another mean or std", "PP", detect, propose, inject, scope="both")
