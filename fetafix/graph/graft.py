"""The source's nodes of a segment written into the target, with the layouts changed at the borders."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fetafix.edits import Edit, ReplaceSegment
from fetafix.edits.surgery import called
from fetafix.graph.constants import inverse
from fetafix.graph.counterparts import counterparts
from fetafix.graph.opsets import translated
from fetafix.graph.segment import Layout, Segment
from fetafix.ir import Array, Graph, Node, Value


def graft(segment: Segment, starts: Collection[str]) -> ReplaceSegment | None:
    """The edit that computes the segment's goal as the source does from the tensors `starts` (source names).

    None where the source reads a tensor without a twin in the target, where nothing would be computed, or where an
    operator cannot be written in the target's operator set.
    """
    goal, source = segment.goal, segment.source
    piece = source.between([s for s in starts if s != goal.source], [goal.source])
    if not piece.nodes and goal.source not in starts:
        return None
    layouts = {a.source: (a.target, a.layout) for a in segment.anchors}
    for name, twin in counterparts(segment).items():
        layouts.setdefault(name, (twin.tensor, Layout(twin.perm)))
    builder = _Builder(dict(piece.initializers))
    bind: dict[str, str] = {}
    inner: dict[str, str] = {}
    for value in piece.input_names if piece.nodes else (goal.source,):
        if value not in layouts:
            return None
        tensor, layout = layouts[value]
        outside = f"{value}_from_target"
        bind[outside] = tensor
        inner[value] = builder.to_source(outside, layout, segment.source.shapes.get(value))
    nodes = [called(n, inner) for n in piece.nodes]
    made = goal.source if piece.nodes else inner[goal.source]
    tail = _Builder(builder.constants)
    result = tail.to_target(made, goal.layout, segment.expected.shape)
    if not piece.nodes and result in bind:  # the goal is a start itself: a node must still make it
        tail.nodes.append(Node("Identity", (result,), (f"{result}_same",)))
        result = f"{result}_same"
    all_nodes = (*builder.nodes, *nodes, *tail.nodes)
    output = Value(result, segment.expected.dtype, segment.full.shapes.get(goal.target))
    fragment = translated(
        Graph(all_nodes, tail.constants, (), (output,), source.opset),
        segment.full.opset.get("", 0),
        {**source.shapes, **{o: segment.full.shapes[t] for o, t in bind.items() if t in segment.full.shapes}},
    )
    return None if fragment is None else ReplaceSegment(goal.target, fragment, bind)


class _Builder:
    """Collects the nodes that change a layout. Leading dimensions stay open, so that the batch is not baked in."""

    def __init__(self, constants: dict[str, Array]) -> None:
        self.nodes: list[Node] = []
        self.constants = constants

    def to_source(self, tensor: str, layout: Layout, shape: Sequence[object] | None) -> str:
        """Target = source.transpose(perm).reshape(…), undone: reshape to the transposed shape, transpose back."""
        dims = [d for d in shape or () if isinstance(d, int)]
        perm = layout.perm
        if layout.reshaped and dims:
            tensor = self._reshape(tensor, [dims[p] for p in perm] if perm else dims)
        return self._transpose(tensor, inverse(perm)) if perm else tensor

    def to_target(self, tensor: str, layout: Layout, shape: Sequence[int]) -> str:
        """As a layout says: transpose, then reshape to the target's shape."""
        if layout.perm:
            tensor = self._transpose(tensor, layout.perm)
        return self._reshape(tensor, shape) if layout.reshaped else tensor

    def _transpose(self, tensor: str, perm: tuple[int, ...]) -> str:
        return self._add("Transpose", tensor, (), {"perm": perm})

    def _reshape(self, tensor: str, shape: Sequence[int]) -> str:
        name = f"{tensor}_shape"
        self.constants[name] = np.array([-1, *shape[1:]], np.int64)
        return self._add("Reshape", tensor, (name,), {})

    def _add(self, op: str, tensor: str, more: tuple[str, ...], attrs: dict[str, tuple[int, ...]]) -> str:
        out = f"{tensor}_{op.lower()}ed"
        self.nodes.append(Node(op, (tensor, *more), (out,), attrs))
        return out


def grafts(segment: Segment) -> list[list[Edit]]:
    """The source's nodes from the last tensors on which both agree; those from the segment's anchors."""
    anchors = {a.source for a in segment.anchors}
    ways = ({*counterparts(segment), *anchors} - {segment.goal.source}, anchors)
    return [[edit] for starts in ways if (edit := graft(segment, starts)) is not None]
