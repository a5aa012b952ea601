"""Class labels shifted by one: 1001 classes with a background in front against 1000.

*What goes wrong*
TensorFlow's ImageNet models have class 0 "background", torchvision's have none; a conversion or its label handling
drops, adds or rolls a class.

*How it shows*
The predicted class differs by a constant, nearly always ±1; one output is the other, rolled along the class axis or
short of its first class.

*Repair*
Roll the rows of the last layer's weights and bias back, remove the node that rolls, gather the classes in the right
order, take the background's row away, or put the source's row back where the target lacks one.

*When not to apply*
The orders differ by more than a shift (op-class-permutation).

*Seen in*
tensorflow/tpu#521; tensorflow/hub#574
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.classes import Counted, another_count, gathered, head, last, moved, shifts
from fetafix.graph.constants import held
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Array, Graph

CODE = "op-class-offset"


def _value(segment: Segment) -> Array | None:
    if segment.actual is not None:
        return segment.actual
    try:
        return segment.run(segment.target, segment.feeds, [segment.goal.target])[0]
    except FetafixError:
        return None


def detect(site: Any) -> Iterator[Suspicion]:
    """Counts the classes; rolls and slices the output along their axis until it is the source's."""
    if isinstance(site, Segment):
        yield from _shifted(site)
        return
    for layer, ours, theirs, start, found in another_count(site):
        how = f"{ours - theirs} more, {start} in front" if ours > theirs else f"{theirs - ours} fewer"
        if found.after < 0.02:
            yield Suspicion(CODE, layer, None, 0.98, {"classes": [ours, theirs], "offset": start},
                            f"the target has {ours} classes, the source {theirs}: {how}", found)


def _shifted(segment: Segment) -> Iterator[Suspicion]:
    value, wanted = _value(segment), segment.expected
    if segment.healed(segment.error) or value is None or value.ndim != 2 or wanted.ndim != 2 or wanted.shape[1] < 3:
        return
    if not head(segment.full, segment.goal.target):
        return
    ours, theirs = value.shape[1], wanted.shape[1]
    orders = {k: np.roll(np.arange(ours), k) for k in shifts(ours)} if ours == theirs else {
        k: np.arange(k, k + theirs) for k in range(ours - theirs + 1)} if 0 < ours - theirs <= 2 else {}
    for shift, order in orders.items():
        error = relative_error(value[:, order], wanted)
        if segment.healed(error) or error < 0.02 * min(segment.error, 1.0):
            kind = f"rolled by {shift}" if ours == theirs else f"with {ours - theirs} class(es) more, {shift} in front"
            yield Suspicion(
                CODE, segment.goal.target, segment.goal.source, 0.99 if segment.healed(error) else 0.9,
                {"classes": [ours, theirs], "offset": shift, "error_after": error},
                f"the target's classes are the source's, {kind}", order)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Remove what rolls; put the last layer's rows in order where that gives the source's; else gather the classes."""
    yield from suspicion.data.ways if isinstance(suspicion.data, Counted) else _orders(site, suspicion)


def _orders(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    graph, order, tensor = segment.full, suspicion.data, segment.goal.target
    for node in reversed(segment.target.nodes):
        if node.op in ("Gather", "Slice", "Concat") and node.op not in {n.op for n in segment.source.nodes}:
            yield [ed.RemoveNode(node.key)]
    rows = moved(graph, tensor, order)
    if rows:
        yield rows
    if not rows or not isinstance(rows[0], ed.SetInput) or not held(segment.source, rows[0].value):
        yield gathered(graph, tensor, order)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Roll the classes by one, in the last layer's rows or by a Gather behind it; or put one more in front."""
    ways: list[list[Edit]] = []
    for output in graph.output_names:
        dims, maker = graph.shapes.get(output), graph.producers.get(output)
        if maker is None or dims is None or len(dims) != 2 or not isinstance(dims[1], int) or dims[1] < 4:
            continue
        order = np.roll(np.arange(dims[1]), int(rng.choice([-1, 1])))
        ways.append(gathered(graph, output, order))
        rows = moved(graph, output, order)
        ways.extend([rows] if rows else [])
        layer = last(graph, output)
        if layer is not None and (layer.bias is not None or rng.random() < 0.5):
            row = rng.standard_normal((1, layer.weight.shape[1])) * float(np.std(layer.weight))
            bias = None if layer.bias is None else np.concatenate([layer.bias.mean(keepdims=True), layer.bias])
            ways.append(layer.holding(np.concatenate([row, layer.weight]), bias))
    return ways[int(rng.integers(len(ways)))] if ways else None


FAULT = FaultType(CODE, "Class labels shifted", "OP", detect, propose, inject, scope="both")
