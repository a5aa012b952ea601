"""A normalisation at an image input and the convolution behind it, folded into one and taken apart again.

With z = G·x + c by channel, a convolution of z without padding is one of x with W' = W·G and b' = b + Σ W·c (the sum
over input channel and taps). Back: W = W'/G, b = b' − Σ W·c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.graph.attributes import canonical
from fetafix.graph.constants import constant
from fetafix.graph.inputfix import axes
from fetafix.graph.inputnodes import Step, baked, by_channel, composed, identity
from fetafix.graph.inputplaces import New, Place, inserted, places
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node

_ODD = 1e-6


@dataclass(frozen=True, eq=False)
class Fold:
    """z = gain · x + shift by channel before `conv`; x is the tensor `given`, in which `axis` is that of channels."""

    conv: Node
    given: str
    rank: int
    axis: int
    gain: Array
    shift: Array
    steps: tuple[Step, ...] = ()
    twin: str | None = None

    def done(self, graph: Graph) -> list[Edit]:
        """The convolution with the normalisation folded into it."""
        weight, bias = _parameters(graph, self.conv)
        scaled = weight * self.gain.reshape(1, -1, *(1,) * (weight.ndim - 2))
        moved = bias + (weight * self.shift.reshape(1, -1, *(1,) * (weight.ndim - 2))).sum(tuple(range(1, weight.ndim)))
        return self._set(graph, scaled, moved)

    def undone(self, graph: Graph) -> list[Edit]:
        """The convolution without what is folded into it, and nodes before it that do that."""
        weight, bias = _parameters(graph, self.conv)
        plain = weight / self.gain.reshape(1, -1, *(1,) * (weight.ndim - 2))
        back = bias - (plain * self.shift.reshape(1, -1, *(1,) * (weight.ndim - 2))).sum(tuple(range(1, weight.ndim)))
        dtype = self._dtype(graph)
        form = by_channel(len(self.gain), self.axis, self.rank) or (1,)
        nodes: list[New] = []
        if np.any(np.abs(self.gain - 1) > _ODD):
            nodes.append(("Mul", {}, self.gain.reshape(form).astype(dtype)))
        nodes.append(("Add", {}, self.shift.reshape(form).astype(dtype)))
        place = Place(self.given, self.rank, self.axis, len(self.gain), None, dtype)
        return [*self._set(graph, plain, back), *inserted(graph, place, nodes)]

    def _set(self, graph: Graph, weight: Array, bias: Array) -> list[Edit]:
        dtype = self._dtype(graph)
        edits: list[Edit] = []
        if np.any(np.abs(self.gain - 1) > _ODD):
            edits.append(ed.SetInput(self.conv.key, 1, np.ascontiguousarray(weight.astype(dtype))))
        return [*edits, ed.SetInput(self.conv.key, 2, bias.astype(dtype))]

    def _dtype(self, graph: Graph) -> np.dtype[np.generic]:
        held = constant(graph, self.conv, 1)
        return np.dtype(np.float32) if held is None else held.dtype


def _parameters(graph: Graph, conv: Node) -> tuple[Array, Array]:
    weight, bias = constant(graph, conv, 1), constant(graph, conv, 2)
    assert weight is not None
    return weight.astype(np.float64), np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)


def folded(graph: Graph) -> list[Fold]:
    """The normalisations at image inputs that stand right before a convolution."""
    found = (_at(graph, p.name, p.axis, p.channels, p.rank) for p in places(graph))
    return [f for f in found if f is not None and f.steps]


def padded(graph: Graph, conv: Node) -> bool:
    """Whether a convolution pads."""
    return any(canonical(conv, graph).get("pads", ()))


def _at(graph: Graph, name: str, axis: int | None, channels: int, rank: int) -> Fold | None:
    """What stands between an input and the convolution that alone reads it; None where there is something else."""
    steps = baked(graph, name, axis, channels, rank)
    tensor = name if not steps or steps[-1].node is None else steps[-1].node.key
    readers = graph.consumers.get(tensor, ())
    conv = readers[0][0] if len(readers) == 1 and readers[0][1] == 0 else None
    if conv is None or conv.op != "Conv" or axis is None or conv.attrs.get("group", 1) != 1:
        return None
    weight = constant(graph, conv, 1)
    whole = composed(steps, identity(channels, rank))
    if weight is None or weight.shape[1] != channels or np.any(whole.gain == 0):
        return None
    moves = [s for s in steps if s.node is not None and s.node.op not in ("Transpose", "Gather", "Identity", "Cast")]
    order = whole.order == tuple(range(channels))
    here = (steps[-1].axes if steps else tuple(range(rank))).index(axis)
    return Fold(conv, tensor, rank, here, whole.gain, whole.bias, tuple(moves)) if order else None


def folds(segment: Segment) -> Iterator[Fold]:
    """For convolutions of a target's segment at an input: what the source does to the input before and they do not."""
    own = set(segment.full.input_names)
    for anchor in segment.anchors:
        fed, given = segment.feeds.get(anchor.target), segment.source_feeds.get(anchor.source)
        if anchor.target not in own or fed is None or given is None or fed.ndim != 4:
            continue
        ours = _side(segment.full, anchor.target, fed)
        theirs = _side(segment.source, anchor.source, given)
        if ours is None or theirs is None or not padded(segment.full, ours.conv) or len(ours.gain) != len(theirs.gain):
            continue
        gain = theirs.gain / ours.gain
        shift = theirs.shift - gain * ours.shift
        if np.any(np.abs(shift) > _ODD):
            yield Fold(ours.conv, ours.given, ours.rank, ours.axis, gain, shift, (), theirs.conv.key)


def _side(graph: Graph, name: str, fed: Array) -> Fold | None:
    axis = axes(graph, name, fed)[0]
    return None if axis is None else _at(graph, name, axis, fed.shape[axis], fed.ndim)

