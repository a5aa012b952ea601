"""A Softmax means another thing since opset 13.

*What goes wrong*
Before opset 13 a Softmax flattened its input at `axis` (1 by default) and normalised whole rows; since 13 it normalises
one axis (the last by default). A converter that only relabels the opset changes the function.

*How it shows*
Rank above 2 and an axis that is not the last: sums over the flattened rest are one in the source, over one axis in the
target, or the other way round.

*Repair*
Flatten, Softmax, Reshape back; or a single Softmax of the source's axis; or the axis, where the old form can say it.

*When not to apply*
NO-OP: the last axis, or only axes of size 1 behind it. Another axis within one form is lh-softmax-axis.

*Seen in*
tvm#20183
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape, version
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.segment import Segment
from fetafix.graph.twins import layout, twins
from fetafix.graph.writer import Writer
from fetafix.ir import Graph, Node

CODE = "vs-softmax-13"
_OPS = ("Softmax", "LogSoftmax", "Hardmax")
_SINCE = 13


def _flattens(graph: Graph, node: Node) -> bool:
    """Whether a Softmax normalises several axes at once: by its version, or between a Flatten and a Reshape."""
    if node.op not in _OPS:
        return False
    before = graph.producers.get(node.input(0))
    spelled = before is not None and before.op == "Flatten" and len(shape(graph, before.input(0)) or ()) > 2
    return bool(canonical(node, graph).get("flattened")) or spelled


def _flattened(graph: Graph, node: Node, axis: int) -> Edit:
    """Rows of all axes from `axis` on, normalised as one."""
    w = Writer(graph, node)
    rows = w.op(node.op, w.op("Flatten", node.input(0), axis=axis), axis=1)
    return w.replacing(node.key, w.op("Reshape", rows, w.op("Shape", node.input(0))))


def _single(graph: Graph, node: Node, flatten: Node, axis: int) -> Iterator[list[Edit]]:
    """One Softmax for Flatten, Softmax and Reshape; for a Softmax between the two, which then undo each other."""
    for n, _ in graph.consumers.get(node.key, ()):
        if n.op == "Reshape":
            w = Writer(graph, node)
            yield [w.replacing(n.key, w.op(node.op, flatten.input(0), axis=axis))]
    w = Writer(graph, node)
    made = w.op(node.op, flatten.input(0), axis=axis)
    yield [w.replacing(node.key, w.op("Flatten", made, axis=int(canonical(flatten, graph)["axis"])))]


def _candidates(segment: Segment, ours: Node, theirs: Node) -> Iterator[list[Edit]]:
    graph, source, perm = segment.full, segment.source, layout(segment, ours, theirs)
    axis, new = int(canonical(theirs, source).get("axis", -1)), version(graph, ours) >= _SINCE
    before, inside = source.producers.get(theirs.input(0)), graph.producers.get(ours.input(0))
    if _flattens(source, theirs):
        spelled = before is not None and before.op == "Flatten"
        axis = int(canonical(before, source)["axis"]) if spelled and before is not None else axis
        if perm is None:
            yield [_flattened(graph, ours, axis) if new else SetAttribute(ours.key, "axis", axis)]
        return
    axis = axis if perm is None else list(perm).index(axis)
    if not new:
        yield [SetAttribute(ours.key, "axis", axis)]
    elif inside is not None and inside.op == "Flatten":
        yield from _single(graph, ours, inside, axis)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Softmax twins of which one normalises flattened rows and the other a single axis."""
    if segment.healed(segment.error):
        return
    for ours, theirs in twins(segment):
        flat = _flattens(segment.full, ours), _flattens(segment.source, theirs)
        error, found = best(segment, list(_candidates(segment, ours, theirs))) if flat[0] != flat[1] else (np.inf, [])
        if found and error < segment.error:
            said = ["one axis", "flattened rows"]
            yield Suspicion(CODE, ours.key, theirs.key, sureness(segment, error, 0.97),
                            {"flattens": flat[0], "source_flattens": flat[1], "error_after": error},
                            f"normalises {said[flat[0]]}, the source {said[flat[1]]}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's meaning in the target's operator set."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The meaning of the other side of opset 13: rows flattened for an axis, the last axis for flattened rows."""
    able: list[list[Edit]] = []
    for node in (n for n in graph.nodes if n.op in _OPS and not n.domain):
        dims, values = shape(graph, node.input(0)), canonical(node, graph)
        if values.get("flattened") and dims:
            able.append([SetAttribute(node.key, "axis", len(dims) - 1)])
        elif version(graph, node) >= _SINCE and dims and 0 < values["axis"] < len(dims) - 1 and dims[-1] > 1:
            able.append([_flattened(graph, node, values["axis"])])
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Softmax of the other side of opset 13", "VS", detect, propose, inject)
