"""An AveragePool counts its padding in the divisor, or does not, unlike the source.

*What goes wrong*
torch counts the padding by default, ONNX and TensorFlow do not; the flag is dropped on the way.

*How it shows*
Only the border ring is wrong; `count_include_pad` of the twins differs. A Pad in front of an AveragePool counts.

*Repair*
Take over the source's flag.

*When not to apply*
No padding: then the flag means nothing and is not compared.

*Seen in*
pytorch#13934
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import absorbed, canonical
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-count-include-pad"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """AveragePool twins that differ in the flag."""
    for setting in settings(segment):
        if setting.target.op != "AveragePool" or "count_include_pad" not in setting.values:
            continue
        ours, theirs = setting.values["count_include_pad"]
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["count_include_pad"]),
            {"count_include_pad": ours, "source_count_include_pad": theirs},
            f"padding {'counts' if ours else 'does not count'} in the average, unlike in the source", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's flag."""
    return suspicion.data.candidates(segment, ["count_include_pad"])  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The flag of a padded AveragePool is turned."""
    nodes = [n for n in graph.nodes if n.op == "AveragePool" and any(canonical(n, graph).get("pads") or ())
             and not any(absorbed(n, graph) or ())]
    if not nodes:
        return None
    node = nodes[int(rng.integers(len(nodes)))]
    return [SetAttribute(node.key, "count_include_pad", 1 - int(canonical(node, graph)["count_include_pad"]))]


FAULT = FaultType(CODE, "Padding counted in averages", "LH", detect, propose, inject)
