"""A weight arrived in another memory order.

*What goes wrong*
HWIO bytes are read as OIHW, output and input channels or height and width change places, rows or blocks of rows move.

*How it shows*
The weight holds exactly the source's values (equal sorted values) in another order, and the order can be named.

*Repair*
Put the target's values into the right order.

*When not to apply*
The values differ beyond noise, or only along the spatial axes reversed (wb-kernel-flip), or a square matrix transposed
(tss-transB), or the rows follow a flattened map (tss-flatten-order), or groups (wb-dw-multiplier, wb-group-interleave).
The order is that of reversed axes (wb-stride-lost); for kernels with one long spatial axis or none that is the same as
HWIO for OIHW, and counts as such.

*Seen in*
common between TensorFlow (HWIO), PyTorch and ONNX (OIHW)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.memory import lost_strides
from fetafix.graph.parameters import WEIGHT, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import NOISE, Reorder, close, permutation
from fetafix.ir import Array, Graph

CODE = "wb-kernel-layout"
_LIKELY = {"axes": 0.95, "layout": 0.95, "blocks": 0.95, "flip": 0.9, "roll": 0.85, "rows": 0.8}
_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _order(p: Parameter) -> Reorder | None:
    """How the target's weight is ordered, unless a more specific fault type names that."""
    if p.value is None or p.value.ndim < 2 or lost_strides(p.value, p.reference, p.noise):
        return None
    found = permutation(p.value, p.reference, p.noise)
    if found is None or (p.value.ndim == 2 and found.kind == "axes"):
        return None
    spatial_flip = found.kind == "flip" and found.axes and min(found.axes) >= 2
    groups = found.kind == "blocks" and p.node.op == "Conv" and p.node.attrs.get("group", 1) != 1
    return None if spatial_flip or groups else found


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Weights that hold the source's values in an order that can be named."""
    for p in differing(segment, WEIGHT):
        found = _order(p)
        if found is not None:
            sure = _LIKELY[found.kind] if p.reference.ndim > 2 or found.kind == "layout" else 0.8
            yield Suspicion(CODE, p.node.key, p.twin.key, sure, {"order": found.kind, "how": found.detail},
                            f"the weight holds the source's values in another order ({found.kind}: {found.detail})",
                            (p, found))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The target's own values in the source's order."""
    p, found = suspicion.data
    yield [p.edit(segment.full, found.undo(p.value, p.reference.shape))]


def _wrong(weight: Array, group: int) -> list[Array]:
    """Known misreadings of a weight, in its own shape."""
    options = []
    if weight.ndim >= 3:
        perm = (*range(2, weight.ndim), 1, 0)
        options.append(weight.transpose(perm).reshape(weight.shape))
        options.append(weight.transpose(0, 1, *reversed(range(2, weight.ndim))))
    if weight.ndim >= 3 and group == 1:
        options.append(np.swapaxes(weight, 0, 1).reshape(weight.shape))
    return [np.ascontiguousarray(o) for o in options if o.shape == weight.shape and not close(o, weight, 1e-2)
            and not lost_strides(o, weight, NOISE)]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A weight's bytes read in another order."""
    places = [(n.key, wrong) for n in graph.nodes if n.op in _OPS and (w := graph.constant(n, 1)) is not None
              for wrong in _wrong(w, int(canonical(n, graph).get("group", 1)))]
    if not places:
        return None
    key, wrong = places[int(rng.integers(len(places)))]
    return [SetInput(key, 1, wrong)]


FAULT = FaultType(CODE, "Weight in another order", "WB", detect, propose, inject)
