"""A 64-bit integer cut off at 32 bits.

*What goes wrong*
A runtime or converter without 64-bit integers stores constants as int32 and clamps what does not fit: a hash factor, a
time stamp, the largest integer that marks a masked place.

*How it shows*
An integer constant of the target is 2147483647 or −2147483648 exactly where the source's is beyond; what is computed
from it is off.

*Repair*
The source's constant.

*When not to apply*
The constant only means "to the end", such as an end of Slice: clamped at 2³¹ − 1 it still does, a NO-OP. The target's
format has no 64-bit integers: then the constant cannot be restored, and the report says so.

*Seen in*
onnxruntime#3821
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Array, Graph, Node

CODE = "dt-int64-clamp"
LOW, HIGH = int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max)


def clamped(value: Array) -> Array:
    """An integer array as 32 bits hold it, in its own type."""
    return np.clip(value, LOW, HIGH).astype(value.dtype)


def _pairs(segment: Segment) -> Iterator[tuple[Node, int, Array, Array, str]]:
    """(target node, slot, its constant, the source's, source node) for constants that may correspond."""
    known = {t.key: s for t, s in twins(segment)}
    for node in segment.target.nodes:
        for slot in range(len(node.inputs)):
            ours = segment.full.constant(node, slot)
            if ours is None or ours.dtype.kind not in "iu" or not np.isin(ours, (LOW, HIGH)).any():
                continue
            likely = [known[node.key]] if node.key in known else []
            for twin in [*likely, *(n for n in segment.source.nodes if n.op == node.op and n not in likely)]:
                theirs = segment.source.constant(twin, slot)
                if theirs is not None and theirs.dtype.kind in "iu" and theirs.size == ours.size:
                    yield node, slot, ours, theirs.reshape(ours.shape), twin.key


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Compares the integer constants that are as large as 32 bits go with those of the same operators."""
    if segment.healed(segment.error):
        return
    seen = set[tuple[str, int]]()
    for node, slot, ours, theirs, twin in _pairs(segment):
        beyond = ours != theirs
        cut = theirs[beyond] if theirs.dtype.kind == "i" else theirs[beyond].astype(np.int64)
        if (node.key, slot) in seen or not beyond.any() or not np.array_equal(np.clip(cut, LOW, HIGH), ours[beyond]):
            continue
        seen.add((node.key, slot))
        value = theirs.astype(np.int64)
        edits = [SetInput(node.key, slot, value)]
        yield Suspicion(
            CODE, node.key, twin, 0.99 if segment.healed(segment.trial(edits)) else 0.6,
            {"values": ours[beyond][:8].tolist(), "source_values": theirs[beyond][:8].tolist()},
            f"{node.label} holds {ours[beyond].flat[0]} where the source holds {theirs[beyond].flat[0]}", edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's constant."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Clamp an integer constant that needs more than 32 bits."""
    able = [(n, s, v) for n in graph.nodes for s in range(len(n.inputs))
            if (v := graph.constant(n, s)) is not None and v.dtype == np.int64 and (v != clamped(v)).any()]
    if not able:
        return None
    node, slot, value = able[int(rng.integers(len(able)))]
    return [SetInput(node.key, slot, clamped(value))]


FAULT = FaultType(CODE, "Integer cut off at 32 bits", "DT", detect, propose, inject)
