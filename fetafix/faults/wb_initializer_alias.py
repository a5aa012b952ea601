"""Two layers share a tensor that should be two: a collision of names.

*What goes wrong*
A converter names or deduplicates tensors carelessly: two parameters of one shape get one name, the later overwrites the
earlier, or a fused bias is attached to the wrong layer.

*How it shows*
A parameter is not the source's, but exactly the one that another layer of the target has, and both read one tensor (or,
of weights, equal copies of it).

*Repair*
The layer gets a tensor of its own with the source's values; the other layer keeps the shared one.

*When not to apply*
The source's layers share the tensor too (tied weights). A bias that is a copy of another layer's, not the same tensor,
is misassigned (wb-bias).

*Seen in*
pytorch#19935, onnx-tensorrt#974
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, Rewire
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import WEIGHT, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Graph, Node

CODE = "wb-initializer-alias"
_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "LSTM", "GRU",
                  "PRelu"})
_TELLING, _LEAST = 1e-2, 2


def _other(p: Parameter, graph: Graph) -> tuple[Node, bool] | None:
    """(another node that has a parameter's value, whether it reads the same tensor); None where no node does."""
    name = p.node.input(p.slot)
    shared = [n for n, _ in graph.consumers.get(name, ()) if n.key != p.node.key]
    if shared:
        return shared[0], True
    if p.value is None or p.role != WEIGHT or p.value.size < _LEAST:
        return None
    for node in (n for n in graph.nodes if n.op == p.node.op and n.key != p.node.key):
        value = graph.constant(node, p.slot)
        if value is not None and value.shape == p.value.shape and np.array_equal(value, p.value):
            return node, False
    return None


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Parameters that are another layer's."""
    for p in differing(segment):
        found = None if p.value is None else _other(p, segment.full)
        if found is not None:
            node, shared = found
            yield Suspicion(
                CODE, p.node.key, p.twin.key, 0.98, {"role": p.role, "other": node.label, "shared": shared},
                f"the {p.role} is {'the tensor' if shared else 'a copy of that'} of {node.label}", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """A tensor of its own."""
    yield [suspicion.data.edit(segment.full)]


def _slots(graph: Graph) -> list[tuple[Node, int, str]]:
    """(node, slot, initializer) of all parameters that are stored as they are."""
    return [(n, i, t) for n in graph.nodes if n.op in _OPS for i, t in enumerate(n.inputs)
            if t in graph.initializers and graph.initializers[t].dtype.kind == "f"
            and graph.initializers[t].size >= _LEAST]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A parameter reads the tensor of another layer's parameter of its kind and shape."""
    held, places = _slots(graph), []
    for node, slot, tensor in held:
        value = graph.initializers[tensor]
        places += [Rewire(node.key, slot, t) for n, s, t in held
                   if n.key != node.key and n.op == node.op and s == slot and t != tensor
                   and graph.initializers[t].shape == value.shape and not close(graph.initializers[t], value, _TELLING)]
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Two layers share one tensor", "WB", detect, propose, inject)
