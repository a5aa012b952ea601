"""Padding done twice, by a Pad and by the layer behind it: who pads how much, and how to take one of them away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fetafix.edits import Edit, RemoveNode, SetAttribute
from fetafix.graph.attributes import absorbed, canonical, front_pad
from fetafix.graph.kernels import SPATIAL
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Dim, Graph, Node


@dataclass(frozen=True, eq=False, slots=True)
class Doubled:
    """A layer of the target behind a Pad, and its twin.

    own, extra, wanted: spatial pads (begin…, end…) of the layer itself, of the Pad, and of the source in all.
    size: the shape of what the source's layer makes, as far as it is known.
    """

    pad: Node
    layer: Node
    twin: Node
    own: tuple[int, ...]
    extra: tuple[int, ...]
    wanted: tuple[int, ...]
    size: tuple[Dim, ...] | None

    def undone(self, graph: Graph) -> list[list[Edit]]:
        """Ways to pad once: without the Pad, without the layer's own pads; and without a Slice behind it."""
        layer, ways = self.layer, list[list[Edit]]()
        if self.extra == self.wanted:
            automatic: list[Edit] = [SetAttribute(layer.key, "auto_pad", None)] if "auto_pad" in layer.attrs else []
            ways.append([*automatic, SetAttribute(layer.key, "pads", (0,) * len(self.own))])
        if self.own == self.wanted and len(graph.consumers.get(self.pad.key, ())) == 1:
            ways.append([RemoveNode(self.pad.key)])
        readers = graph.consumers.get(layer.key, ())
        cut = readers[0][0] if len(readers) == 1 and readers[0][0].op == "Slice" else None
        idle = cut is not None and graph.shapes.get(cut.key) == self.size  # once the map has its size again
        return [[*way, RemoveNode(cut.key)] for way in ways] if cut is not None and idle else ways


def pads_of(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """A layer's own pads, auto_pad made explicit, without those of a Pad in front; None where they are not known."""
    pads = canonical(node, graph).get("pads") if node.op in SPATIAL else None
    extra = absorbed(node, graph)
    return pads if pads is None or extra is None else tuple(p - e for p, e in zip(pads, extra, strict=True))


def doubled(segment: Segment) -> Iterator[Doubled]:
    """Layers of a segment behind a Pad, where the Pad's or the layer's pads alone are all that the source pads."""
    for layer, twin in twins(segment):
        front, own = front_pad(layer, segment.target), pads_of(layer, segment.target)
        wanted = _all(twin, segment.source)
        if front is None or front.mode != "constant" or not own or not any(own) or not any(front.pads):
            continue
        if wanted is not None and wanted in (own, front.pads):
            yield Doubled(front.node, layer, twin, own, front.pads, wanted, segment.source.shapes.get(twin.key))


def _all(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """What a layer of the source pads in all, with a Pad in front of it."""
    own, front = pads_of(node, graph), front_pad(node, graph)
    return own if own is None or front is None else tuple(a + b for a, b in zip(own, front.pads, strict=True))
