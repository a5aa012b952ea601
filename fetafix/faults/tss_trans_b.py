"""A fully connected layer multiplies by the transposed matrix.

*What goes wrong*
The flag transB of a Gemm is lost or set, or a square weight is transposed once too often. A square matrix hides it from
every check of shapes.

*How it shows*
The matrix is square and equals the source's transposed.

*Repair*
Turn the flag, where the tensors are equal, else transpose the weight.

*When not to apply*
NO-OP: a symmetric matrix. Gemm with transB against MatMul with the transposed weight is the same function.

*Seen in*
onnxruntime#32228, tensil#46
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import WEIGHT, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Graph

CODE = "tss-transB"
_OPS = ("Gemm", "MatMul")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Square matrices that equal the source's transposed."""
    for p in differing(segment, WEIGHT):
        w = p.value
        square = w is not None and w.ndim == 2 and w.shape[0] == w.shape[1]
        if p.node.op not in _OPS or w is None or not square or not close(w.T, p.reference, p.noise):
            continue
        flags = [bool(n.attrs.get("transB")) for n in (p.node, p.twin)]
        yield Suspicion(CODE, p.node.key, p.twin.key, 0.97, {"transB": flags[0], "source_transB": flags[1]},
                        "the matrix is the source's transposed", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The other flag; the transposed weight."""
    p = suspicion.data
    if p.node.op == "Gemm":
        yield [SetAttribute(p.node.key, "transB", int(not p.node.attrs.get("transB")))]
    yield [p.edit(segment.full, np.ascontiguousarray(p.value.T))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A Gemm's flag is turned, or a square matrix transposed."""
    places: list[Edit] = []
    for node in graph.nodes:
        w = graph.constant(node, 1)
        if node.op not in _OPS or w is None or w.ndim != 2 or w.shape[0] != w.shape[1] or close(w.T, w, 1e-2):
            continue
        if node.op == "Gemm":
            places.append(SetAttribute(node.key, "transB", int(not node.attrs.get("transB"))))
        places.append(SetInput(node.key, 1, np.ascontiguousarray(w.T)))
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Matrix transposed", "TSS", detect, propose, inject)
