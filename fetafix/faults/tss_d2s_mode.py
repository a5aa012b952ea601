"""Depth to space reads the channels in the other order: DCR for CRD.

*What goes wrong*
TensorFlow's depth_to_space takes the channels as (block, block, C), PyTorch's pixel_shuffle as (C, block, block). A
converter drops the mode, writes the wrong one, or writes the Reshape and Transpose of the other.

*How it shows*
Shapes and the set of values are right; within each block the pixels come from the wrong channels.

*Repair*
Set the mode; written out, set shape and permutation. Where the operator has no mode (before opset 11), put the channels
into the other order before it.

*When not to apply*
The channels of the layer before are permuted to match. NO-OP: one channel remains, or the block is one wide.

*Seen in*
onnx2tf#91, onnxscript#2891
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.graph.shuffles import shuffles, switched
from fetafix.ir import Graph

CODE = "tss-d2s-mode"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Depth to space, in either spelling, whose mode is not that of the source's."""
    if segment.healed(segment.error):
        return
    theirs = shuffles(segment.source)
    for ours in shuffles(segment.target):
        for twin in theirs:
            if ours.ambiguous or ours.mode == twin.mode or (ours.block, ours.channels) != (twin.block, twin.channels):
                continue
            ways = switched(ours, segment.full, twin.mode)
            error = min(segment.trial(w) for w in ways)
            yield Suspicion(
                CODE, ours.blamed.key, twin.blamed.key, 0.97 if segment.healed(error) else 0.6,
                {"mode": ours.mode, "source_mode": twin.mode, "block": ours.block},
                f"depth to space reads the channels as {ours.mode}, in the source as {twin.mode}", ways)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's mode; the channels put in order."""
    return suspicion.data  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The other mode, in the spelling that the graph has; where that has none there is no place."""
    places = [switched(s, graph, "DCR" if s.mode == "CRD" else "CRD")[:-1] for s in shuffles(graph) if not s.ambiguous]
    able = [ways[0] for ways in places if ways]
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Depth to space in the other mode", "TSS", detect, propose, inject)
