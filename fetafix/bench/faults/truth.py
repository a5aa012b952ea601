"""What two graphs of one model differ in: the ground truth of a fault, and the reach of a repair.

Both are compared in canonical form by what their nodes make, so that the answer does not rest on anybody's account of
the edits. A node is touched where its operator, an attribute, an input or a constant that it reads differs, or where
only one graph has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.ir import Body, Graph, Node


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of nodes. near: those next to touched ones, in either graph, and what touched ones make."""

    layers: frozenset[str]
    near: frozenset[str]
    interface: bool

    def right(self, layer: str | None) -> bool:
        """Whether naming this layer, None for the interface, is localization: a touched node or one next to it."""
        return self.interface if layer is None else layer in self.layers or layer in self.near


def between(before: Graph, after: Graph) -> Touched:
    """What differs. The interface does where inputs, outputs or what stands next to them do."""
    ours, theirs = ({n.key: n for n in g.nodes} for g in (before, after))
    keys = {k for k in (*ours, *theirs) if not _same(ours.get(k), theirs.get(k), before, after)}
    keys |= {g.producers[o].key for g in (before, after) for o in {*before.output_names} ^ {*after.output_names}
             if o in g.producers}
    ends = [{*g.input_names, *g.output_names} for g in (before, after)]
    declared = [{v.name: (v.dtype, v.shape) for v in (*g.inputs, *g.outputs)} for g in (before, after)]
    order = (before.input_names, before.output_names) != (after.input_names, after.output_names)
    nodes = [g[k] for g in (ours, theirs) for k in keys if k in g]
    at_ends = any({*n.reads, *n.outputs} & {*ends[0], *ends[1]} for n in nodes)
    near = {n.label for g in (before, after) for k in keys for n in _neighbours(g, k)} | keys
    return Touched(frozenset(n.label for n in nodes), frozenset(near), declared[0] != declared[1] or order or at_ends)


def beyond(fault: Touched, before: Graph, after: Graph) -> tuple[list[str], list[str]]:
    """(nodes that a repair touched, those among them that the fault had not touched and that are not next to it).

    New nodes count as in place where they stand next to what the fault touched, or to new nodes in place.
    """
    done = sorted(between(before, after).layers)
    old = {n.label for n in before.nodes}
    new = {n.label: n.key for n in after.nodes if n.label not in old}
    place = {layer for layer in done if fault.right(layer)}
    while more := {layer for layer, key in new.items() if layer not in place and any(
            n.label in place or fault.right(n.label) for n in _neighbours(after, key))}:
        place |= more
    return done, [layer for layer in done if layer not in place]


def _neighbours(graph: Graph, key: str) -> list[Node]:
    node = graph.producers.get(key)
    if node is None:
        return []
    makers = [graph.producers[t] for t in node.reads if t in graph.producers]
    return [*makers, *(reader for o in node.outputs for reader, _ in graph.consumers.get(o, ()))]


def _same(a: Node | None, b: Node | None, before: Graph, after: Graph) -> bool:
    if a is None or b is None:
        return False
    if (a.op, a.domain, len(a.inputs), a.outputs) != (b.op, b.domain, len(b.inputs), b.outputs):
        return False
    return _same_attributes(a.attrs, b.attrs) and all(
        _same_tensor(s, t, before, after) for s, t in zip(a.inputs, b.inputs, strict=True))


def _same_attributes(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)


def _same_tensor(a: str, b: str, before: Graph, after: Graph) -> bool:
    held, holds = before.initializers.get(a), after.initializers.get(b)
    return a == b if held is None or holds is None else _equal(held, holds)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, Body) and isinstance(b, Body):
        return a.proto == b.proto
    return bool(a == b)
