"""A map is padded twice: by a Pad of its own and by the layer behind it.

*What goes wrong*
A converter writes a Pad in front of a convolution or pooling and keeps the layer's own pads too. Where the layer behind
insists on the size, what is too much is cut off at the end.

*How it shows*
In front of the layer lies a Pad, and the layer's own pads, or the Pad's, are alone what the source pads. The map is
shifted and larger; global pooling, a stride or a Slice behind it hides that.

*Repair*
Remove the Pad, and the Slice that cuts its surplus; or take the layer's own pads away.

*When not to apply*
Pad and pads together are what the source pads (half each, or one side each). NO-OP: the Slice cuts what the Pad added;
padding at the end that the stride never reads.

*Seen in*
converters that write SAME padding explicitly and keep the attribute
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.constants import concrete
from fetafix.graph.counterparts import sureness
from fetafix.graph.doubling import doubled, pads_of
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.padding import inserted
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "cg-pad-duplicated"
_SIZELESS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_POINTWISE = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "BatchNormalization", "PRelu", "Elu"})


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Layers behind a Pad of which one alone does all the padding of the source, where removing the other heals."""
    if segment.healed(segment.error):
        return
    for found in doubled(segment):
        ways = found.undone(segment.full)
        error = min((segment.trial(w) for w in ways), default=float("inf"))
        if error < segment.error:
            yield Suspicion(
                CODE, found.pad.key, found.twin.key, sureness(segment, error, 0.97),
                {"pads": list(found.own), "pad": list(found.extra), "source_pads": list(found.wanted)},
                f"{found.pad.label} pads {list(found.extra)} and {found.layer.label} pads {list(found.own)}; "
                f"the source pads {list(found.wanted)} in all", ways)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """One padding taken away."""
    return suspicion.data  # type: ignore[no-any-return]


def _sizeless(graph: Graph, tensor: str) -> bool:
    """Whether everything that reads a map takes it in any size."""
    readers = graph.consumers.get(tensor, ())
    return bool(readers) and tensor not in graph.output_names and all(
        n.op in _SIZELESS or (n.op in _POINTWISE and _sizeless(graph, n.key)) for n, _ in readers)


def _places(graph: Graph) -> list[list[Edit]]:
    """A Pad in front of each padded layer, with a Slice behind it where the size matters."""
    made: list[list[Edit]] = []
    for node in graph.nodes:
        own, dims = pads_of(node, graph), concrete(graph, node.key)
        before = graph.producers.get(node.input(0))
        if node.op not in ("Conv", "AveragePool", "MaxPool") or not own or not any(own) or dims is None:
            continue
        if canonical(node, graph).get("ceil_mode") or (before is not None and before.op == "Pad"):
            continue
        pad = inserted(graph, node, own)
        made.append([pad] if _sizeless(graph, node.key) else [pad, _cut(pad.apply(graph), node, dims)])
    return made


def _cut(graph: Graph, node: Node, dims: tuple[int, ...]) -> Edit:
    """A Slice to the first rows and columns of the old size."""
    names = [tensor_like(graph, role, node) for role in ("starts", "ends", "axes")]
    axes = np.arange(2, len(dims), dtype=np.int64)
    values = (np.zeros_like(axes), np.array(dims[2:], np.int64), axes)
    label, out = like(graph, "Slice", node)
    return InsertNode(node.key, Node("Slice", (node.key, *names), (out,), {}, label),
                      dict(zip(names, values, strict=True)))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Pad in front of a padded layer, and a Slice behind it where the map must keep its size."""
    places = _places(graph) if graph.opset.get("", 1) >= 11 else []
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Padded twice", "CG", detect, propose, inject)
