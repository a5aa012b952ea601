"""A constant lost its strides: its bytes were written as they lay in memory, its shape as it was seen.

*What goes wrong*
A transposed view is not contiguous. A converter that stores the buffer of such a tensor with the view's shape, or reads
Fortran order as C order, reshuffles the values.

*How it shows*
The tensor has the source's shape and the source's values in the order of reversed axes.

*Repair*
The target's own values in the right order.

*When not to apply*
Other orders have names of their own (wb-kernel-layout, wb-kernel-flip). NO-OP: one long axis. A square matrix is
transposed by it (tss-transB). Kernels with one spatial axis, or with one long one, are the same bytes whether strides
were lost or HWIO was read as OIHW: those count as wb-kernel-layout.

*Seen in*
litert-torch#1238
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.memory import lost_strides, restored, reversals, telling
from fetafix.graph.parameters import differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Graph

CODE = "wb-stride-lost"
_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Gather"})


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Parameters that hold the source's values in the order of reversed axes."""
    for p in differing(segment):
        if p.value is not None and lost_strides(p.value, p.reference, p.noise):
            yield Suspicion(
                CODE, p.node.key, p.twin.key, 0.97, {"role": p.role, "shape": list(p.value.shape)},
                f"the {p.role} of shape {list(p.value.shape)} holds its bytes in the order of reversed axes", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The target's own values in order."""
    p = suspicion.data
    yield [p.edit(segment.full, restored(p.value, p.reference, p.noise))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A constant's bytes in the order of reversed axes, where that is told from other mistakes."""
    places = []
    for node in (n for n in graph.nodes if n.op in _OPS):
        for slot in range(len(node.inputs)):
            value = graph.constant(node, slot)
            if value is None or value.dtype.kind != "f" or value.ndim < 2 or not telling(value.shape):
                continue
            places += [SetInput(node.key, slot, r) for r in reversals(value)[:1] if not close(r, value, 1e-2)]
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Strides lost", "WB", detect, propose, inject)
