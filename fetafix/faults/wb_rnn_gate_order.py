"""The gates of an LSTM or GRU are stacked in another framework's order.

*What goes wrong*
ONNX stacks an LSTM's gates as i, o, f, c, torch as i, f, g, o, Keras as i, f, c, o; a GRU's as z, r, h, torch as r, z,
n. A converter copies the blocks as they are, or permutes the weights and forgets the biases or one half of them.

*How it shows*
W, R, or a half of B holds the source's row blocks in another order.

*Repair*
Put the blocks of W, R and both halves of B into the source's order.

*When not to apply*
NO-OP: all gates hold the same numbers. The order of directions is lh-rnn-direction.

*Seen in*
keras#8720, onnx2torch PR#256
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.gates import GATES, SLOTS, layers, named, order_of, parts, rearranged
from fetafix.graph.parameters import Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Graph, Node

CODE = "wb-rnn-gate-order"
_NAMES = {1: ("W",), 2: ("R",), 3: ("Wb", "Rb")}
_WRONG = {"LSTM": ((0, 2, 3, 1), (0, 2, 1, 3), (0, 3, 1, 2)), "GRU": ((1, 0, 2),)}
_FORGOTTEN: tuple[dict[int, tuple[int, ...]], ...] = (
    {1: (0,), 2: (0,), 3: (0, 1)}, {3: (0, 1)}, {3: (1,)}, {1: (0,), 2: (0,)}, {2: (0,)},
)


def _orders(p: Parameter) -> dict[str, tuple[int, ...]] | None:
    """In which order each part of a parameter holds the source's blocks; None where a part holds something else."""
    gates, found = len(GATES[p.node.op]), {}
    if p.value is None or p.value.shape != p.reference.shape:
        return None
    for name, ours, theirs in zip(_NAMES[p.slot], parts(p.value, p.slot), parts(p.reference, p.slot), strict=True):
        order = order_of(ours, theirs, gates, p.noise)
        if order is None:
            return None
        if order != tuple(range(gates)):
            found[name] = order
    return found


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Recurrent twins whose differing parameters are the source's blocks in another order."""
    wrong = [p for p in differing(segment) if p.node.op in GATES and p.slot in SLOTS]
    for key in dict.fromkeys(p.node.key for p in wrong):
        own = [p for p in wrong if p.node.key == key]
        explained = [(p, orders) for p in own if (orders := _orders(p))]
        if not explained:
            continue
        node, found = own[0].node, {k: v for _, orders in explained for k, v in orders.items()}
        said = ", ".join(f"{name} as {named(node.op, order)}" for name, order in found.items())
        yield Suspicion(CODE, key, own[0].twin.key, 0.98 if len(explained) == len(own) else 0.8,
                        {name: named(node.op, order) for name, order in found.items()},
                        f"gates are stacked in another order than {GATES[node.op]}: {said}", [p for p, _ in explained])


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """All blocks in the source's order."""
    yield [p.edit(segment.full) for p in suspicion.data]


def _moved(graph: Graph, node: Node, order: Sequence[int], where: dict[int, tuple[int, ...]]) -> list[Edit]:
    edits: list[Edit] = []
    for slot, which in where.items():
        old = graph.constant(node, slot)
        new = None if old is None else rearranged(old, slot, len(order), order, which)
        if old is not None and new is not None and not close(new, old, 1e-2):
            edits.append(SetInput(node.key, slot, new))
    return edits


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another framework's order for all blocks, for the biases, for a half of them, or for the weights alone."""
    places = [(n, order) for n in layers(graph, *GATES) for order in _WRONG[n.op]]
    if not places:
        return None
    node, order = places[int(rng.integers(len(places)))]
    where = _FORGOTTEN[int(rng.integers(len(_FORGOTTEN)))]
    return _moved(graph, node, order, where) or _moved(graph, node, order, _FORGOTTEN[0]) or None


FAULT = FaultType(CODE, "Gates in another order", "WB", detect, propose, inject)
