"""Parameters differ, and no more specific fault type says how.

*What goes wrong*
A stale checkpoint, a broken tie between layers, a name collision, noise: the tensor is simply another one.

*How it shows*
Weights, biases or statistics of twins differ; where the two sides have different forms, the folded ones do.

*Repair*
Copy the source's parameters, folded to the target's form. Where nothing folds and the segment ends in a linear layer,
solve its weight and bias from the source's activations by least squares.

*When not to apply*
A specific fault type explains the difference and changes less. Most layers differ: then the models are unrelated.

*Seen in*
pytorch#19935, onnx-tensorrt#974
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import Parameter, differing, pairs
from fetafix.graph.segment import Segment
from fetafix.graph.solve import solve
from fetafix.graph.weights import deviation
from fetafix.ir import Array, Graph, Node

CODE = "wb-weights"
_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NOISE = (0.05, 0.2, 0.5)
_SOLVED = 1e-3


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Nodes with differing parameters; else a last linear layer whose parameters can be solved."""
    wrong = differing(segment)
    nodes = {p.node.key: p.node for p in wrong}
    for key in nodes:
        own = [p for p in wrong if p.node.key == key]
        off = max(1.0 if p.value is None else deviation(p.value, p.reference) for p in own)
        roles = ", ".join(p.role for p in own)
        yield Suspicion(CODE, key, own[0].twin.key, 0.4, {"parameters": roles, "relative_max": off},
                        f"{roles} differ from the source's", own)
    if not wrong and not any(pair.folded for pair in pairs(segment)):
        edits = _solved(segment)
        if edits:
            yield Suspicion(CODE, segment.node.key, segment.goal.source, 0.35, {"solved": True},
                            "weight and bias solved from the source's activations", edits)


def _solved(segment: Segment) -> list[Edit]:
    """Least-squares parameters of the linear layer that makes the goal; [] where there is none or it does not help."""
    node, graph = segment.node, segment.target
    if node.op not in _OPS or graph.constant(node, 1) is None:
        return []
    try:
        (x,) = segment.run(graph, segment.feeds, [node.input(0)])
    except FetafixError:
        return []
    found = solve(node, graph, np.asarray(x), segment.expected)
    if found is None:
        return []
    edits: list[Edit] = []
    for slot, value in enumerate(found, start=1):
        parameter = Parameter(node, slot, graph.constant(node, slot), value, node, direct=False)
        if slot == 1 or parameter.value is not None or float(np.max(np.abs(value))) > _SOLVED:
            edits.append(parameter.edit(segment.full))
    return edits if segment.trial(edits) < min(segment.error, _SOLVED) else []


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """Each parameter of the node, all of them, all of the segment; or what was solved."""
    data = suspicion.data
    if data and not isinstance(data[0], Parameter):
        yield data
        return
    every = differing(segment)
    choices = [[p] for p in data]
    choices += [data] if len(data) > 1 else []
    choices += [every] if len(every) > len(data) else []
    for chosen in choices:
        yield [p.edit(segment.full) for p in chosen]


def _noisy(node: Node, weight: Array, rng: np.random.Generator) -> Edit:
    share = _NOISE[int(rng.integers(len(_NOISE)))]
    noise = rng.standard_normal(weight.shape) * share * float(np.std(weight))
    return SetInput(node.key, 1, (weight + noise).astype(weight.dtype))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Noise on a layer's weight, as from another checkpoint."""
    places = [(n, w) for n in graph.nodes if n.op in _OPS and (w := graph.constant(n, 1)) is not None
              and w.dtype.kind == "f" and w.size > 1 and float(np.std(w)) > 0]
    if not places:
        return None
    node, weight = places[int(rng.integers(len(places)))]
    return [_noisy(node, weight, rng)]


FAULT = FaultType(CODE, "Parameters differ", "WB", detect, propose, inject)
