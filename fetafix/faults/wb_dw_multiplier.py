"""The filters of a depthwise convolution with a channel multiplier are in the other order.

*What goes wrong*
A depthwise layer makes m channels of each of C: output c·m + j in ONNX, PyTorch and TensorFlow. A converter that keeps
them as (m, C) writes filter j·C + c there, so that most channels meet another channel's filter.

*How it shows*
The weight, and often the bias, hold the source's values, their rows taken as (C, m) in one model and (m, C) in the
other.

*Repair*
The target's own rows in the source's order; the bias along with the weight where both moved.

*When not to apply*
Groups of more than one input channel (wb-group-interleave). NO-OP: multiplier 1, or equal filters.

*Seen in*
executorch PR#17423
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.blocks import deinterleaved, grouped, interleavings
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "wb-dw-multiplier"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Depthwise weights whose rows are the source's as (m, C) instead of (C, m)."""
    for found in interleavings(segment):
        if found.depthwise:
            c, m = found.groups, found.rows // found.groups
            yield Suspicion(
                CODE, found.weight.node.key, found.weight.twin.key, 0.97,
                {"channels": c, "multiplier": m, "bias": found.bias is not None},
                f"the filters are ordered as (multiplier {m}, channel {c}) where the source has (channel, multiplier)",
                found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The weight in order; the weight and the bias."""
    return deinterleaved(segment, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The rows of a depthwise layer with a multiplier become (m, C), the bias along with them or not."""
    places = [layer for layer in grouped(graph) if layer.depthwise]
    if not places:
        return None
    layer, whole = places[int(rng.integers(len(places)))], bool(rng.integers(2))
    edits = [SetInput(layer.node.key, 1, layer.mixed(layer.weight))]
    if whole and layer.bias is not None:
        edits.append(SetInput(layer.node.key, 2, layer.mixed(layer.bias)))
    return edits


FAULT = FaultType(CODE, "Depthwise multiplier in the other order", "WB", detect, propose, inject)
