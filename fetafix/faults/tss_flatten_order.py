"""A map is flattened in another order than the fully connected layer behind it expects.

*What goes wrong*
Channels-last frameworks flatten (H, W, C), channels-first ones (C, H, W). A converter drops the Transpose before the
Flatten, or forgets to permute the rows of the matrix.

*How it shows*
The flattened inputs and the matrix's rows do not follow the same order.

*Repair*
Permute the rows of the matrix, or insert, remove or correct the Transpose before the Flatten.

*When not to apply*
Order and rows belong together. NO-OP: one channel, or a map of one pixel.

*Seen in*
MMdnn#595, nn-transfer#16, nn-transfer#11
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute, SetInput
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.parameters import Pair, pairs
from fetafix.graph.segment import Segment, relative_error
from fetafix.graph.weights import close, flatten_orders
from fetafix.ir import Array, Graph, Node

CODE = "tss-flatten-order"
_FLATTENS, _EQUAL = ("Flatten", "Reshape"), 1e-4


def _orders(rows: int, segment: Segment) -> Iterator[tuple[tuple[int, ...], Array]]:
    """(axis order, row order) of each way to flatten each map of the segment that has that many elements."""
    shapes = [*segment.target.shapes.values(), *segment.source.shapes.values()]
    return flatten_orders(rows, (tuple(d for d in s[1:] if isinstance(d, int)) for s in shapes if len(s) > 2))


def _input_order(segment: Segment, pair: Pair) -> Array | None:
    """Row order by which the source's flattened input becomes the target's."""
    ours, theirs = pair.target.nodes[0].input(0), pair.source.nodes[0].input(0)
    try:
        (x,) = segment.run(segment.target, segment.feeds, [ours])
        (y,) = segment.run(segment.source, segment.source_feeds, [theirs])
    except FetafixError:
        return None
    if x.shape != y.shape or x.ndim != 2:
        return None
    return next((o for _, o in _orders(x.shape[1], segment) if relative_error(x, y[:, o]) < _EQUAL), None)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Fully connected twins whose matrix is the source's with rows in another order than the input needs."""
    for pair in pairs(segment):
        parameter = next((p for p in pair.parameters if p.slot == 1 and p.node.op in ("Gemm", "MatMul")), None)
        if parameter is None or parameter.value is None:
            continue
        transposed = parameter.node.op == "Gemm" and bool(parameter.node.attrs.get("transB"))
        matrix, own = (t.T if transposed else t for t in (parameter.reference, parameter.value))
        order = _input_order(segment, pair)
        held = None if order is None or close(own, matrix[order], parameter.noise) else next(
            (h for h in _orders(len(own), segment) if close(own, matrix[h[1]], parameter.noise)), None)
        if held is not None:
            value = own[np.argsort(held[1])][order]
            yield Suspicion(CODE, parameter.node.key, parameter.twin.key, 0.98, {"rows": list(held[0])},
                            "the matrix's rows are not in the order in which the map is flattened",
                            [parameter.edit(segment.full, np.ascontiguousarray(value.T if transposed else value))])


def _with_transpose(segment: Segment, flatten: Node) -> Iterator[list[Edit]]:
    """Transposes before the Flatten removed, corrected or inserted."""
    dims, before = shape(segment.target, flatten.input(0)), segment.target.producers.get(flatten.input(0))
    perms = [(0, *p) for p in permutations(range(1, len(dims)))] if dims is not None and 2 < len(dims) <= 4 else []
    if before is not None and before.op == "Transpose":
        yield [RemoveNode(before.key)]
        for perm in (p for p in perms if p != before.attrs.get("perm")):
            yield [SetAttribute(before.key, "perm", perm)]
        return
    for perm in perms[1:]:
        made = f"{flatten.input(0)}_transposed"
        node = Node("Transpose", (flatten.input(0),), (made,), {"perm": perm}, made)
        yield [InsertNode(flatten.input(0), node, consumers=((flatten.key, 0),))]


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """A Transpose before the Flatten that heals, then the rows permuted."""
    flatten = segment.target.producers.get(segment.target.node(str(suspicion.target)).input(0))
    if flatten is not None and flatten.op in _FLATTENS:
        yield from (e for e in _with_transpose(segment, flatten) if segment.healed(segment.trial(e)))
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Rows of a matrix behind a Flatten in channels-last order, or a Transpose before a Flatten dropped."""
    places: list[Edit] = []
    for flatten in (n for n in graph.nodes if n.op in _FLATTENS):
        dims, out = shape(graph, flatten.input(0)), shape(graph, flatten.key)
        if dims is None or out is None or len(dims) != 4 or sum(d > 1 for d in dims[1:]) < 2 or len(out) != 2:
            continue
        before = graph.producers.get(flatten.input(0), flatten)
        places += [RemoveNode(before.key)] if before.op == "Transpose" and dims[0] == out[0] else []
        order = np.arange(out[1]).reshape(dims[1:]).transpose(1, 2, 0).ravel() if out[1] == np.prod(dims[1:]) else None
        for node, slot in graph.consumers.get(flatten.key, ()):
            weight = graph.constant(node, 1)
            if order is None or slot or weight is None or node.op not in ("Gemm", "MatMul"):
                continue
            moved = np.take(weight, order, 1 if canonical(node, graph).get("transB") else 0)
            if not close(moved, weight, 1e-2):
                places.append(SetInput(node.key, 1, moved))
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Flatten order", "TSS", detect, propose, inject)
