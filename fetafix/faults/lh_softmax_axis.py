"""A Softmax normalises along another axis.

*What goes wrong*
The axis is dropped, or kept as a number while the layout changed (NCHW axis 1 is NHWC axis 3).

*How it shows*
The sum over the source's axis is not one; `axis` of the twins differs after the layout is taken into account.

*Repair*
Take over the source's axis, renumbered for the target's layout.

*When not to apply*
The same axis under another number (−1 against the last; NHWC against NCHW).

*Seen in*
keras-onnx#529, coremltools#1714
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-softmax-axis"
_OPS = ("Softmax", "LogSoftmax", "Hardmax")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Softmax twins with another axis."""
    for setting in settings(segment):
        ours, theirs = setting.values.get("axis", (None, None))
        if setting.target.op not in _OPS or theirs is None:
            continue
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["axis"]),
            {"axis": ours, "source_axis": theirs}, f"normalises along axis {ours}; the source's is axis {theirs} here",
            setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's axis in the target's layout."""
    return suspicion.data.candidates(segment, ["axis"])  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another axis, neither the batch nor one of size 1."""
    places = []
    for node in graph.nodes:
        dims = shape(graph, node.input(0))
        if node.op in _OPS and dims is not None:
            old = canonical(node, graph)["axis"]
            places += [(node, i) for i in range(1, len(dims)) if i != old and dims[i] > 1]
    if not places:
        return None
    node, axis = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, "axis", axis)]


FAULT = FaultType(CODE, "Wrong Softmax axis", "LH", detect, propose, inject)
