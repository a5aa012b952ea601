"""An activation lost, or one too many.

*What goes wrong*
A fusion drops the activation it should have folded in, or a converter emits a fused activation and keeps the separate
one.

*How it shows*
Negative values where the source has none, or the other way round. Between the same anchors the source has an activation
more (or less) than the target, and its input is a tensor that both compute.

*Repair*
Insert the activation with the source's parameters where its input is in the target; remove the superfluous one.

*When not to apply*
The activation changes nothing there (Relu of what is never negative), is part of another operator, or was exchanged for
another (cg-op-substitution).

*Seen in*
fused operators of TFLite and ONNX Runtime; the category CG of arXiv 2312.15101
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import best, in_target_terms, put_behind, sureness, twin_of
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.graph.units import Unit, surplus, units
from fetafix.ir import Graph, Node

CODE = "cg-act-missing"
_INJECTED = ("Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSwish", "Tanh", "Clip", "PRelu")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Compares the activations of both sides, and tries the ones that only one side has."""
    if segment.healed(segment.error):
        return
    ours, theirs = units(segment.target), units(segment.source)
    more, fewer = surplus(ours, theirs)
    if sum(more.values()) == sum(fewer.values()):
        return
    for unit in theirs if sum(fewer.values()) > sum(more.values()) else ():
        if fewer[unit.kind]:
            error, found = best(segment, _insertions(segment, unit))
            if found:
                yield _suspicion(segment, unit, error, found, True)
    for unit in ours if sum(more.values()) > sum(fewer.values()) else ():
        if more[unit.kind]:
            error, found = best(segment, [_removal(segment.target, unit)])
            if found:
                yield _suspicion(segment, unit, error, found, False)


def _suspicion(segment: Segment, unit: Unit, error: float, found: list[list[Edit]], missing: bool) -> Suspicion:
    first = unit.nodes[0]
    text = (f"the source has {unit.kind} ({first.label}) where the target has no activation" if missing else
            f"the target has {unit.kind} ({first.label}) where the source has no activation")
    twin = twin_of(segment, unit.start) if missing else None
    after = next((n.key for n, _ in segment.target.consumers.get(twin.tensor, ())), None) if twin else None
    return Suspicion(
        CODE, after or (segment.goal.target if missing else unit.end), unit.end if missing else None,
        sureness(segment, error), {"missing" if missing else "extra": unit.kind, "error_after": error}, text, found)


def _insertions(segment: Segment, unit: Unit) -> list[list[Edit]]:
    twin = twin_of(segment, unit.start)
    if twin is None:
        return []
    readers = segment.full.consumers.get(twin.tensor, ())
    near = segment.full.producers.get(twin.tensor) or next((n for n, _ in readers), None)
    graph, names, ways, last = segment.full, {unit.start: twin.tensor}, list[list[Edit]]([[]]), twin.tensor
    for node in unit.nodes:  # each serves all that read the one before, so that the gate does not read itself
        made = in_target_terms(segment, node, names, twin.perm, graph, near)
        if made is None:
            return []
        if last == twin.tensor:
            ways = put_behind(segment, last, *made)
        else:
            ways = [[*way, ed.InsertNode(last, *made)] for way in ways]
        graph = ed.apply(segment.full, ways[0])
        names[node.key] = last = made[0].key
    return ways


def _removal(graph: Graph, unit: Unit) -> list[Edit]:
    last = unit.nodes[-1]
    return [ed.RemoveNode(last.key, last.inputs.index(unit.start))]


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The insertions or the removal that detection tried."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Drop an activation, or put a Relu behind a convolution that has none."""
    able: list[list[Edit]] = [_removal(graph, u) for u in units(graph)
                              if u.nodes[0].op in _INJECTED and u.end not in graph.output_names]
    for node in graph.nodes:
        readers = graph.consumers.get(node.key, ())
        bare = readers and all(n.op in ("Conv", "Add", "Gemm", "Concat") for n, _ in readers)
        if bare and node.op in ("Conv", "Gemm", "Add") and node.key not in graph.output_names:
            name, out = like(graph, "Relu", node)
            able.append([ed.InsertNode(node.key, Node("Relu", (node.key,), (out,), {}, name))])
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Activation missing or superfluous", "CG", detect, propose, inject)
