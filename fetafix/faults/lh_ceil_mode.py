"""A pooling rounds its output size the other way, or a ceil_mode was written as padding that counts.

*What goes wrong*
ceil_mode is dropped, and the last row and column with it; or it is spelled out as pads at the end ([0,0,1,1]) with
count_include_pad, so that an average is divided by pixels that are not there.

*How it shows*
`ceil_mode` of the twins differs. Only the last row and column are wrong, or lacking, which global pooling hides.

*Repair*
Take over the source's ceil_mode, pads and divisor: what of it is needed.

*When not to apply*
NO-OP: sizes that divide; MaxPool, or an average that does not count padding, with the same extent as explicit pads.
Where neither side has ceil_mode, pads that were lost are lh-pads-lost.

*Seen in*
pytorch#183528, pytorch#99424, onnx#4958
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical, shape, version
from fetafix.graph.kernels import extent
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.graph.sizes import vanishes
from fetafix.ir import Graph, Node

CODE = "lh-ceil-mode"
_NAMES = ("ceil_mode", "pads", "count_include_pad")
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_SURER = 1.02


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Pooling twins of which one rounds up."""
    for setting in settings(segment):
        if setting.target.op in _POOLS and setting.target.op == setting.source.op and "ceil_mode" in setting.values:
            yield setting_claim(CODE, segment, setting, setting.helpful(segment, _NAMES), _SURER)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The most helpful of the three, then all that differ."""
    return setting_edits(segment, suspicion)


def _surplus(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """How far the last windows reach beyond the padded map, per spatial axis; None where shapes are unknown."""
    values, dims = canonical(node, graph), shape(graph, node.input(0))
    pads = values.get("pads")
    if dims is None or pads is None:
        return None
    n = len(values["kernel_shape"])
    room = [extent(dims[2 + i], values["kernel_shape"][i], 1, values["dilations"][i], pads[i] + pads[n + i]) - 1
            for i in range(n)]
    return tuple(-r % s for r, s in zip(room, values["strides"], strict=True))


def _wrong(node: Node, graph: Graph) -> list[list[Edit]]:
    values, surplus = canonical(node, graph), _surplus(node, graph)
    if surplus is None or not any(surplus) or version(graph, node) < 10 or "ceil_mode" not in values:
        return []
    made: list[list[Edit]] = []
    if vanishes(graph, node.key) and all(int(d) > 1 for d in (shape(graph, node.key) or ())[2:]):
        made.append([SetAttribute(node.key, "ceil_mode", 1 - int(values["ceil_mode"]))])
    if values["ceil_mode"] and node.op == "AveragePool":
        n, pads = len(surplus), values["pads"]
        own = (*pads[:n], *(p + s for p, s in zip(pads[n:], surplus, strict=True)))
        made.append([SetAttribute(node.key, "ceil_mode", 0), SetAttribute(node.key, "pads", own),
                     SetAttribute(node.key, "count_include_pad", 1)])
    return made


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """ceil_mode as counted pads, or turned where the size does not matter."""
    places = [e for n in graph.nodes if n.op in _POOLS and not n.domain for e in _wrong(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Pooling rounds its size otherwise", "LH", detect, propose, inject)
