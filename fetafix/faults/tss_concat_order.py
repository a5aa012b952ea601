"""A Concat joins its inputs in another order.

*What goes wrong*
The converter collects the branches in the order in which it meets them.

*How it shows*
The output is the expected one in permuted blocks: the target's inputs hold what the source's hold, in other slots.

*Repair*
Rewire the inputs into the source's order.

*When not to apply*
The consumers' weights are permuted to match: then nothing is wrong behind them.

*Seen in*
common to converters that traverse graphs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import numpy as np

from fetafix.edits import Edit, Rewire
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.segment import Segment, relative_error
from fetafix.graph.twins import layout, twins
from fetafix.ir import Graph, Node

CODE = "tss-concat-order"
_EQUAL = 1e-3
_TRIED = 4


def _rewired(node: Node, order: Sequence[int]) -> list[Edit]:
    """Slot i reads what slot order[i] read."""
    return [Rewire(node.key, i, node.inputs[j]) for i, j in enumerate(order) if node.inputs[i] != node.inputs[j]]


def _by_value(segment: Segment, target: Node, source: Node) -> list[int] | None:
    """The order in which the target's inputs are the source's; None where they do not match one to one."""
    if len(target.inputs) != len(source.inputs):
        return None
    try:
        ours = segment.run(segment.target, segment.feeds, target.inputs)
        theirs = segment.run(segment.source, segment.source_feeds, source.inputs)
    except FetafixError:
        return None
    perm = layout(segment, target, source)
    order: list[int] = []
    for wanted in theirs:
        moved = wanted if perm is None or wanted.ndim != len(perm) else wanted.transpose(perm)
        fitting = [i for i, v in enumerate(ours) if i not in order and relative_error(v, moved) < _EQUAL]
        if not fitting:
            return None
        order.append(len(order) if len(order) in fitting else fitting[0])
    return order


def _by_trial(segment: Segment, node: Node) -> list[int] | None:
    """The order of a few inputs that heals the segment."""
    if len(node.inputs) > _TRIED:
        return None
    orders = [list(o) for o in permutations(range(len(node.inputs)))][1:]
    return next((o for o in orders if segment.healed(segment.trial(_rewired(node, o)))), None)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Concat twins whose inputs hold the same tensors in another order."""
    for target, source in twins(segment):
        if target.op != "Concat" or source.op != "Concat" or len(target.inputs) < 2:
            continue
        order = _by_value(segment, target, source) or _by_trial(segment, target)
        if order is not None and order != sorted(order):
            yield Suspicion(CODE, target.key, source.key, 0.96, {"order": order},
                            f"inputs are joined in another order; the source's is {order}", _rewired(target, order))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's order."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Two different inputs change places, of equal size along the axis so that everything behind still fits."""
    places = []
    for node in (n for n in graph.nodes if n.op == "Concat"):
        axis = canonical(node, graph)["axis"]
        dims = [shape(graph, t) for t in node.inputs]
        sizes = [None if d is None or axis < 0 else d[axis] for d in dims]
        last = node.key in graph.output_names
        places += [(node, i, j) for i in range(len(sizes)) for j in range(i) if node.inputs[i] != node.inputs[j]
                   and all(not graph.fixed(t) for t in (node.inputs[i], node.inputs[j]))
                   and sizes[i] is not None and (sizes[i] == sizes[j] or not last)]
    if not places:
        return None
    node, i, j = places[int(rng.integers(len(places)))]
    order = list(range(len(node.inputs)))
    order[i], order[j] = j, i
    return _rewired(node, order)


FAULT = FaultType(CODE, "Concat order", "TSS", detect, propose, inject)
