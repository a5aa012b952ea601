"""A bias is dropped, misassigned or misordered.

*What goes wrong*
A converter omits a layer's bias, zeroes it, rolls it, or gives it to another layer.

*How it shows*
The error is a constant per channel: the weights agree and the bias does not.

*Repair*
Set the source's bias, adding the input (or an Add) where the target has none; folded where the forms differ.

*When not to apply*
The weights differ too; only a part of the bias was lost in the fold of a BatchNormalization (wb-bn-fold); the layer
reads another's bias, the very same tensor (wb-initializer-alias). NO-OP: the lost bias is zero.

*Seen in*
MMdnn#792, onnx2tf#5, onnx2tf#16
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import BIAS, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import permutation
from fetafix.ir import Array, Graph, Node

CODE = "wb-bias"
_LAYERS = ("Conv", "ConvTranspose", "Gemm")
_TELLING = 1e-2


def _how(p: Parameter) -> tuple[str, float]:
    """What happened to a bias, and how sure that is."""
    if p.value is None:
        return "is missing", 0.95
    if not np.any(p.value):
        return "is zero", 0.95
    if not np.any(p.reference):
        return "was added", 0.9
    found = permutation(p.value, p.reference, p.noise)
    return (f"is misordered ({found.kind}: {found.detail})", 0.95) if found else ("has other values", 0.6)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Biases that differ while the other parameters of their layer agree."""
    wrong = differing(segment)
    for p in wrong:
        if p.role != BIAS:
            continue
        how, sure = _how(p)
        alone = all(q is p or (q.twin is not p.twin and q.node is not p.node) for q in wrong)
        off = float(np.max(np.abs((0.0 if p.value is None else p.value) - p.as_stored), initial=0.0))
        yield Suspicion(CODE, p.node.key, p.twin.key, sure if alone else 0.4, {"how": how, "max_abs": off},
                        f"the bias {how}", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's bias; then all biases of the segment."""
    yield [suspicion.data.edit(segment.full)]
    every = differing(segment, BIAS)
    if len(every) > 1:
        yield [p.edit(segment.full) for p in every]


def _biases(graph: Graph) -> list[tuple[Node, Array]]:
    return [(n, b) for n in graph.nodes if n.op in _LAYERS and (b := graph.constant(n, 2)) is not None
            and b.ndim == 1 and float(np.max(np.abs(b), initial=0.0)) > _TELLING]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A bias is dropped, zeroed, rolled, or replaced by another layer's of the same size."""
    biases = _biases(graph)
    if not biases:
        return None
    node, bias = biases[int(rng.integers(len(biases)))]
    options: list[Array | None] = [np.zeros_like(bias)]
    if node.op != "Gemm" or graph.opset.get("", 1) >= 11:
        options.append(None)
    if bias.size > 1 and float(np.ptp(bias)) > _TELLING:
        options.append(np.roll(bias, int(rng.integers(1, bias.size))))
    options += [b for n, b in biases if n is not node and b.shape == bias.shape and np.ptp(b - bias) > _TELLING][:1]
    return [SetInput(node.key, 2, options[int(rng.integers(len(options)))])]


FAULT = FaultType(CODE, "Bias lost or misplaced", "WB", detect, propose, inject)
