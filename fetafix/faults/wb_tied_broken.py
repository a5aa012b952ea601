"""One of two tied copies of a weight is stale.

*What goes wrong*
A weight that two layers share (the embedding and the output projection of a language model) is written twice, and one
copy comes from another checkpoint or from the initialisation.

*How it shows*
The source holds the same numbers in both layers, up to transposition; in the target one of the two differs.

*Repair*
Copy the weight, which ties the two again.

*When not to apply*
The tensor is used once (wb-weights), or the numbers are there in another order (wb-kernel-layout).

*Seen in*
pytorch#19935
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.constants import held
from fetafix.graph.parameters import Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import alike, deviation
from fetafix.ir import Array, Graph, Node

CODE = "wb-tied-broken"
_OPS = frozenset({"Gather", "MatMul", "Gemm", "Conv", "ConvTranspose"})
_LEAST = 8
_STALE = (0.1, 0.3, 1.0)


def _stale(segment: Segment, p: Parameter) -> bool:
    """Whether the target holds the right numbers at another layer, and others here."""
    weight = p.reference
    if p.node.op not in _OPS or p.value is None or weight.ndim < 2 or weight.size < _LEAST:
        return False
    if alike(p.value, weight, p.noise):
        return False
    return held(segment.full, weight)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Weights that differ here and are as the source has them at another layer of the target."""
    for p in differing(segment):
        if _stale(segment, p):
            off = deviation(np.asarray(p.value), p.reference)
            yield Suspicion(CODE, p.node.key, p.twin.key, 0.95, {"relative_max": off, "shape": list(p.reference.shape)},
                            "another layer holds the right weight: this copy is stale", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The other layer's weight."""
    yield [suspicion.data.edit(segment.full)]


def _shared(graph: Graph) -> list[tuple[Node, int, Array]]:
    """(node, slot, weight) of every matrix that another node holds too, as it is or transposed."""
    found = [(n, slot, w) for n in graph.nodes if n.op in _OPS for slot in range(len(n.inputs))
             if (w := graph.constant(n, slot)) is not None and w.ndim >= 2 and w.size >= _LEAST and w.dtype.kind == "f"]
    return [(n, slot, w) for n, slot, w in found
            if any((n, slot) != (m, s) and (_equal(w, v) or (w.ndim == 2 and _equal(w.T, v))) for m, s, v in found)]


def _equal(a: Array, b: Array) -> bool:
    return a is b or (a.shape == b.shape and bool(np.array_equal(a, b)))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One of two equal weights drifts away, as in another checkpoint."""
    places = _shared(graph)
    if not places:
        return None
    node, slot, weight = places[int(rng.integers(len(places)))]
    noise = rng.standard_normal(weight.shape) * _STALE[int(rng.integers(len(_STALE)))] * float(np.std(weight))
    return [SetInput(node.key, slot, (weight + noise).astype(weight.dtype))]


FAULT = FaultType(CODE, "A tied weight is stale", "WB", detect, propose, inject)
