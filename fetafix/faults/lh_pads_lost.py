"""Padding was lost, or only part of it arrived.

*What goes wrong*
The pads of a convolution or pooling are dropped, cut to one side ([1,1,1,1] → [0,0,1,1]), or lay in a Pad node in front
that was dropped without being merged.

*How it shows*
Pad and kernel count as one unit: the effective pads of the twins differ and the source's are symmetric, or the target
has none. A border ring is wrong, at stride 2 the whole map is shifted, or the output has another size.

*Repair*
Take over the source's effective pads, less what a Pad in front of the target's operator does already.

*When not to apply*
The same extent in another form: Pad + Conv against a padded Conv, auto_pad against explicit pads.

*Seen in*
onnxmltools#716, onnx2keras PR#50
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.compare import assign, keeps_shape
from fetafix.graph.doubling import doubled
from fetafix.graph.kernels import WIDENED
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-pads-lost"


def _symmetric(pads: Sequence[int]) -> bool:
    n = len(pads) // 2
    return tuple(pads[:n]) == tuple(pads[n:])


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other pads, where the source's are symmetric or the target has none."""
    twice = {d.layer.key for d in doubled(segment)}
    for setting in settings(segment):
        ours, theirs = setting.values.get("pads", (None, None))
        kernel = setting.target.op in WIDENED
        if not (kernel or setting.target.op == "Pad") or ours is None or theirs is None:
            continue
        if setting.target.key in twice or (kernel and not _symmetric(theirs) and any(ours)):
            continue
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["pads"]),
            {"pads": list(ours), "source_pads": list(theirs)},
            f"pads are {list(ours)}, the source pads {list(theirs)}", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's pads."""
    return suspicion.data.candidates(segment, ["pads"])  # type: ignore[no-any-return]


def _less(node: Node, graph: Graph) -> list[tuple[int, ...]]:
    """Pads without the leading side that keep the output's shape (the trailing side is then never read)."""
    pads = canonical(node, graph).get("pads")
    if not pads or not any(pads) or not _symmetric(pads):
        return []
    n = len(pads) // 2
    options = {(*(0,) * n, *pads[n:]), (0,) * (2 * n)}
    return [p for p in sorted(options) if keeps_shape(node, graph, pads=p) and assign(node, graph, {"pads": p})]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Symmetric pads lose a side, where the output's size hides it (stride 2, even size)."""
    places = [(n, p) for n in graph.nodes if n.op in WIDENED for p in _less(n, graph)]
    if not places:
        return None
    node, pads = places[int(rng.integers(len(places)))]
    return assign(node, graph, {"pads": pads})


FAULT = FaultType(CODE, "Padding lost", "LH", detect, propose, inject)
