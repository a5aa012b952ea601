"""Padding as one unit with the operator that it is for: a Pad in front, or pads of the operator's own.

A convolution fills with zeros, a MaxPool with −∞; whatever else a Pad fills in cannot be merged into the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute, SetInput
from fetafix.graph.attributes import FrontPad, canonical, front_pad, version
from fetafix.graph.kernels import SPATIAL
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Array, Graph, Node

LOWEST = -1e30  # fills below count as −∞


@dataclass(frozen=True, slots=True)
class Merged:
    """A target operator that pads by itself where its source twin has a Pad in front."""

    target: Node
    source: Node
    front: FrontPad


def merged(segment: Segment) -> Iterator[Merged]:
    """Kernel operators of the target without a Pad in front, whose twins have one."""
    for target, source in twins(segment):
        if target.op not in SPATIAL or target.op != source.op:
            continue
        front = front_pad(source, segment.source)
        own = canonical(target, segment.full).get("pads") or ()
        if front is not None and front_pad(target, segment.full) is None and len(own) == len(front.pads):
            yield Merged(target, source, front)


def unmerged(segment: Segment, unit: Merged) -> list[list[Edit]]:
    """Edits that put the source's Pad in front of the target's operator, whose own pads become those of its twin."""
    graph, node = segment.full, unit.target
    rest = canonical(unit.source, segment.source).get("pads")
    if rest is None:
        return []
    own: list[Edit] = [SetAttribute(node.key, "auto_pad", None)] if "auto_pad" in node.attrs else []
    return [[inserted(graph, node, unit.front.pads, unit.front.mode, unit.front.value), *own,
             SetAttribute(node.key, "pads", rest)]]


def inserted(graph: Graph, node: Node, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> InsertNode:
    """The edit that puts a Pad in front of a node. pads: spatial, (begin…, end…)."""
    n = len(pads) // 2
    full = (0, 0, *pads[:n], 0, 0, *pads[n:])
    name, out = like(graph, "Pad", node)
    attrs: dict[str, object] = {} if mode == "constant" else {"mode": mode}
    constants: dict[str, Array] = {}
    inputs = [node.input(0)]
    if version(graph, node) < 11:
        attrs |= {"pads": full, "value": float(value)}
    else:
        amounts = tensor_like(graph, "pads", node)
        constants[amounts] = np.array(full, np.int64)
        inputs.append(amounts)
        if mode == "constant" and value != 0.0:
            fill = tensor_like(graph, "value", node)
            constants[fill] = np.asarray(value, np.float32)
            inputs.append(fill)
    made = Node("Pad", tuple(inputs), (out,), attrs, name)  # type: ignore[arg-type]
    return InsertNode(node.input(0), made, constants, ((node.key, 0),))


def filled(graph: Graph, pad: Node, value: float) -> Edit:
    """The edit that makes a Pad fill in another constant."""
    if version(graph, pad) < 11:
        return SetAttribute(pad.key, "value", float(value))
    old = graph.constant(pad, 2)
    return SetInput(pad.key, 2, np.full((), value, np.float32) if old is None else np.full_like(old, value))


def taken_in(graph: Graph, node: Node, front: FrontPad) -> list[Edit]:
    """Edits that drop the Pad in front of an operator, which pads by itself instead; [] where others read the Pad."""
    own = canonical(node, graph).get("pads")
    if own is None or len(graph.consumers.get(front.node.key, ())) > 1 or front.node.key in graph.output_names:
        return []
    auto: list[Edit] = [SetAttribute(node.key, "auto_pad", None)] if "auto_pad" in node.attrs else []
    total = tuple(a + b for a, b in zip(own, front.pads, strict=True))
    return [RemoveNode(front.node.key), *auto, SetAttribute(node.key, "pads", total)]
