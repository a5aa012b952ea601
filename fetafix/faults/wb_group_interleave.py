"""The output channels of a grouped convolution are interleaved between the groups.

*What goes wrong*
The outputs of g groups of k are kept as (g, k) or as (k, g). A converter that takes one for the other gives most
filters to another group, which reads other channels.

*How it shows*
Only at group > 1: the weight, and often the bias, hold the source's rows, taken as (g, k) in one model and as (k, g) in
the other.

*Repair*
The target's own rows in the source's order; the bias along with the weight where both moved.

*When not to apply*
Groups of one input channel (wb-dw-multiplier). Rows that moved otherwise (wb-kernel-layout). NO-OP: one row a group, or
equal filters.

*Seen in*
grouped and channel-shuffling networks (ResNeXt, ShuffleNet) between converters
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.blocks import deinterleaved, grouped, interleavings
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "wb-group-interleave"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Grouped weights whose rows are the source's, interleaved."""
    for found in interleavings(segment):
        if not found.depthwise:
            yield Suspicion(
                CODE, found.weight.node.key, found.weight.twin.key, 0.97,
                {"groups": found.groups, "rows": found.rows, "bias": found.bias is not None},
                f"the filters of {found.groups} groups are interleaved", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The weight in order; the weight and the bias."""
    return deinterleaved(segment, suspicion.data)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The rows of a grouped layer are interleaved, the bias along with them or not."""
    places = [layer for layer in grouped(graph) if not layer.depthwise]
    if not places:
        return None
    layer, whole = places[int(rng.integers(len(places)))], bool(rng.integers(2))
    edits = [SetInput(layer.node.key, 1, layer.mixed(layer.weight))]
    if whole and layer.bias is not None:
        edits.append(SetInput(layer.node.key, 2, layer.mixed(layer.bias)))
    return edits


FAULT = FaultType(CODE, "Groups interleaved", "WB", detect, propose, inject)
