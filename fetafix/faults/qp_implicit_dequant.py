"""A quantised source rounds an activation that the target passes on unrounded.

*What goes wrong*
A converter drops a pair of QuantizeLinear and DequantizeLinear as if it did nothing, while it keeps those around it.

*How it shows*
Between two layers the source's values lie on a grid and are cut off at its ends; the target's do not. The difference is
small unless the range was also an activation function (Relu, Relu6 by saturation).

*Repair*
The source's pair is put back where it stands in the source.

*When not to apply*
The source computes in floats: then nothing is lost by not rounding. The target computes in floats throughout.

*Seen in*
tensorflow-onnx#2394, tensorflow-onnx#2041
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.activations import MOVES, Place, at_input, place_of
from fetafix.graph.rounding import rounds
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node
from fetafix.quantisation import Grid

CODE = "qp-implicit-dequant"


def _rounders(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op == "QuantizeLinear"]


def _twins(segment: Segment, tensor: str) -> list[str]:
    """Target tensors of the segment that stand for a source tensor."""
    return [t for t, s in segment.pairs.items() if s == tensor and t in segment.full.consumers]


def _pair(after: str, grid: Grid, readers: tuple[tuple[str, int], ...]) -> list[Edit]:
    """A QuantizeLinear and a DequantizeLinear after a tensor, for some of its readers."""
    names = [f"{after}_{part}" for part in ("scale", "zero", "codes", "real")]
    tensors = {names[0]: grid.scale.reshape(()), names[1]: grid.zero_point.reshape(())}
    write = Node("QuantizeLinear", (after, names[0], names[1]), (names[2],), {}, names[2])
    read = Node("DequantizeLinear", (names[2], f"{names[0]}_read", f"{names[1]}_read"), (names[3],), {}, names[3])
    again = {f"{k}_read": v for k, v in tensors.items()}
    return [InsertNode(after, write, tensors, readers), InsertNode(names[2], read, again, readers)]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Roundings of the source's segment that the target's has not."""
    if not rounds(segment.full) or len(_rounders(segment.source)) <= len(_rounders(segment.target)):
        return
    for writer in _rounders(segment.source):
        place = place_of(segment.source, writer)
        for tensor in _twins(segment, writer.input(0)) if place is not None and place.agree else ():
            readers = tuple((n.key, slot) for n, slot in segment.full.consumers[tensor]
                            if slot >= 0 and n.op != "QuantizeLinear")
            if place is not None and readers:
                low, high = (float(v) for v in place.written.values(np.array(place.written.bounds)))
                yield Suspicion(CODE, readers[0][0], writer.key, 0.9, {"tensor": tensor, "grid": [low, high]},
                                f"the source rounds this tensor to a grid from {low:.3g} to {high:.3g}, the target "
                                "does not", _pair(tensor, place.written, readers))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The pair put back."""
    yield suspicion.data


def _idle(graph: Graph, place: Place) -> bool:
    """Whether the same rounding takes place again in front or behind (about a MaxPool or a Reshape)."""
    node = graph.producers.get(place.before)
    while node is not None and node.op in MOVES:
        node = graph.producers.get(node.input(0))
    around = [node] if node is not None and node.op == "DequantizeLinear" else []
    behind = [n for r in place.readers for n, _ in graph.consumers.get(r.key, ())]
    while behind:
        reader = behind.pop()
        around += [reader] if reader.op == "QuantizeLinear" else []
        behind += [n for n, _ in graph.consumers.get(reader.key, ())] if reader.op in MOVES else []
    return any((grid := graph.grid_of(n)) is not None and grid.same_steps(place.written) for n in around)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The pair of an activation removed."""
    found = [p for n in _rounders(graph) if (p := place_of(graph, n)) is not None
             and not at_input(graph, p) and not _idle(graph, p)
             and all(r.input(0) == n.key and r.key not in graph.output_names for r in p.readers)]
    if len(found) < 2:
        return None
    place = found[int(rng.integers(len(found)))]
    return [*(RemoveNode(r.key) for r in place.readers), RemoveNode(place.writer.key)]


FAULT = FaultType(CODE, "Rounding dropped", "QP", detect, propose, inject)
