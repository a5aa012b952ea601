"""TensorFlow's asymmetric SAME padding became symmetric.

*What goes wrong*
At stride 2 and even size TensorFlow pads only at the end ([0,0,1,1]). A converter writes [1,1,1,1]. The output keeps
its shape and is shifted by one pixel.

*How it shows*
The source's pads (its own and those of a Pad in front) differ between begin and end; the target's are others. Border
and interior are wrong.

*Repair*
Take over the source's pads; where the target has a Pad of its own in front, only the rest.

*When not to apply*
Equal effective pads in another form (auto_pad, Pad + Conv); the same numbers on other sides (tss-pad-field-order).
NO-OP: stride 1 with odd kernels, odd input sizes.

*Seen in*
tensorflow-onnx#1028, onnx#388
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.compare import assign, keeps_shape
from fetafix.graph.kernels import WIDENED
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-same-asym"


def asymmetric(pads: tuple[int, ...]) -> bool:
    """Whether begin and end differ on some axis."""
    n = len(pads) // 2
    return pads[:n] != pads[n:]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other pads, where the source's are asymmetric and the target still pads."""
    for setting in settings(segment):
        ours, theirs = setting.values.get("pads", (None, None))
        if setting.target.op not in WIDENED or not ours or not theirs or not asymmetric(theirs) or not any(ours):
            continue
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["pads"]),
            {"pads": list(ours), "source_pads": list(theirs)},
            f"pads are {list(ours)}, the source pads {list(theirs)}: the map is shifted", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's pads."""
    return suspicion.data.candidates(segment, ["pads"])  # type: ignore[no-any-return]


def _wrong_pads(node: Node, graph: Graph) -> list[tuple[int, ...]]:
    """Symmetric pads that keep the output's shape."""
    values = canonical(node, graph)
    pads = values.get("pads")
    if not pads or not asymmetric(pads) or max(values["strides"]) < 2:
        return []
    n = len(pads) // 2
    wide = tuple(max(pads[i], pads[n + i]) for i in range(n))
    made = (*wide, *wide)
    return [made] if keeps_shape(node, graph, pads=made) and assign(node, graph, {"pads": made}) else []


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Asymmetric pads of a strided operator become symmetric."""
    places = [(n, p) for n in graph.nodes if n.op in WIDENED for p in _wrong_pads(n, graph)]
    if not places:
        return None
    node, pads = places[int(rng.integers(len(places)))]
    return assign(node, graph, {"pads": pads})


FAULT = FaultType(CODE, "SAME padding made symmetric", "LH", detect, propose, inject)
