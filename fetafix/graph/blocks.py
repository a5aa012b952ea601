"""The rows of grouped convolutions: g groups of k output channels, in order (g, k) or interleaved (k, g)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit
from fetafix.graph.attributes import canonical
from fetafix.graph.parameters import BIAS, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import alike, blocks, close
from fetafix.ir import Array, Graph, Node

_TELLING = 1e-2


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A convolution of several groups. weight: (O, I/g, k…); bias: (O,) or None."""

    node: Node
    groups: int
    depthwise: bool
    weight: Array
    bias: Array | None

    def mixed(self, rows: Array) -> Array:
        """Rows (O, …) that are in order, interleaved."""
        return np.ascontiguousarray(blocks(rows, 0, self.groups))


@dataclass(frozen=True, eq=False, slots=True)
class Interleaved:
    """A layer whose weight's rows are interleaved; bias: likewise, or None where that is in order or missing.

    split: into how many blocks the source's rows were cut to make the target's.
    """

    weight: Parameter
    bias: Parameter | None
    groups: int
    rows: int
    split: int
    depthwise: bool


def _groups(node: Node, graph: Graph) -> tuple[int, bool]:
    """(groups, whether each is one input channel); (1, False) for what is no convolution of constant weights."""
    weight = graph.constant(node, 1)
    if node.op != "Conv" or weight is None or weight.ndim < 3:
        return 1, False
    group = int(canonical(node, graph).get("group", 1))
    return group, weight.shape[1] == 1


def grouped(graph: Graph) -> list[Layer]:
    """Convolutions of several groups with several rows each, where interleaving them changes the weight."""
    found = []
    for node in graph.nodes:
        group, depthwise = _groups(node, graph)
        weight, bias = graph.constant(node, 1), graph.constant(node, 2)
        if group > 1 and weight is not None and weight.shape[0] // group > 1:
            layer = Layer(node, group, depthwise, weight, bias)
            found += [] if close(layer.mixed(weight), weight, _TELLING) else [layer]
    return found


def interleavings(segment: Segment) -> Iterator[Interleaved]:
    """Layers of a segment whose rows are the source's, interleaved one way or the other."""
    wrong = differing(segment)
    for p in wrong:
        group, depthwise = _groups(p.node, segment.target)
        if p.slot != 1 or group < 2 or p.value is None or p.value.shape != p.reference.shape:
            continue
        rows = p.value.shape[0]
        for split in dict.fromkeys((group, rows // group)):
            if rows > group and close(p.value, blocks(p.reference, 0, split), p.noise):
                bias = next((q for q in wrong if q.node is p.node and q.role == BIAS and _same_move(q, split)), None)
                yield Interleaved(p, bias, group, rows, split, depthwise)
                break


def _same_move(p: Parameter, split: int) -> bool:
    fits = p.value is not None and p.value.ndim == 1 and p.value.shape == p.reference.shape
    return fits and p.value is not None and alike(p.value, p.reference) and close(
        p.value, blocks(p.reference, 0, split), p.noise)


def deinterleaved(segment: Segment, found: Interleaved) -> Iterator[list[Edit]]:
    """Edits that put the target's own rows in order: of the weight alone, of weight and bias."""
    back = found.rows // found.split

    def edit(p: Parameter) -> Edit:
        return p.edit(segment.full, np.ascontiguousarray(blocks(np.asarray(p.value), 0, back)))

    if found.bias is None:
        yield [edit(found.weight)]
    else:
        yield [edit(found.weight), edit(found.bias)]
