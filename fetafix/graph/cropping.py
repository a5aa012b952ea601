"""What a transposed convolution's full output is cropped by: pads, output_padding, and a Slice right behind.

The full output of size s·(i−1) + d·(k−1) + 1 loses `pads` at its ends and gains output_padding at the end (ONNX's
ConvTranspose); a Slice behind takes more away. Only their sums count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.graph.attributes import canonical, shape, version
from fetafix.ir import Graph, Node

_TURNED = ("Transpose", "Add", "Relu", "Identity")


@dataclass(frozen=True, slots=True)
class Crop:
    """Effective crop, (begin…, end…) over the spatial axes; negative at the end where output_padding adds more.

    own: without the Slice. slice: the Slice behind, where there is one that crops spatial axes by constants; `axes`:
    which axis of its tensor each spatial axis is there.
    """

    own: tuple[int, ...]
    total: tuple[int, ...]
    slice: Node | None = None
    axes: tuple[int, ...] = ()


def crop_of(node: Node, graph: Graph) -> Crop | None:
    """The crop of a ConvTranspose; None where its pads or shapes are unknown."""
    values, out = canonical(node, graph), shape(graph, node.key)
    pads, more = values.get("pads"), values.get("output_padding")
    if pads is None or more is None or out is None:
        return None
    n = len(more)
    own = (*pads[:n], *(p - m for p, m in zip(pads[n:], more, strict=True)))
    found = _slice_behind(node, graph, len(out))
    if found is None:
        return Crop(own, own)
    cut, axes = found
    starts, ends = _bounds(cut, graph)
    dims = shape(graph, cut.input(0)) or ()
    total = (*(own[i] + starts.get(a, 0) for i, a in enumerate(axes)),
             *(own[n + i] + dims[a] - ends.get(a, dims[a]) for i, a in enumerate(axes)))
    return Crop(own, total, cut, axes)


def _slice_behind(node: Node, graph: Graph, rank: int) -> tuple[Node, tuple[int, ...]] | None:
    """The Slice that alone reads a ConvTranspose, perhaps through a bias or Transposes, and its spatial axes."""
    axes = tuple(range(2, rank))
    current = node
    while True:
        readers = graph.consumers.get(current.key, ())
        if len(readers) != 1 or current.key in graph.output_names:
            return None
        current = readers[0][0]
        if current.op == "Transpose":
            perm = list(canonical(current, graph).get("perm", ()))
            axes = tuple(perm.index(a) for a in axes)
        elif current.op == "Slice":
            starts, _ = _bounds(current, graph)
            return (current, axes) if starts and set(starts) <= set(axes) else None
        elif current.op not in _TURNED:
            return None


def _bounds(cut: Node, graph: Graph) -> tuple[dict[int, int], dict[int, int]]:
    """Starts and ends of a Slice by constants with step 1, by axis, non-negative; ({}, {}) for any other."""
    dims = shape(graph, cut.input(0))
    given = [graph.constant(cut, s) for s in (1, 2, 3, 4)]
    if version(graph, cut) < 10 or dims is None or given[0] is None or given[1] is None:
        return {}, {}
    if given[3] is not None and np.any(given[3] != 1):
        return {}, {}
    axes = range(len(given[0])) if given[2] is None else [int(a) % len(dims) for a in given[2]]
    starts = {a: _within(int(s), dims[a]) for a, s in zip(axes, given[0], strict=True)}
    return starts, {a: _within(int(e), dims[a]) for a, e in zip(axes, given[1], strict=True)}


def _within(index: int, size: int) -> int:
    return min(max(index + size if index < 0 else index, 0), size)


def sliced(graph: Graph, crop: Crop, total: Sequence[int]) -> list[Edit]:
    """Edits of the Slice that make the whole crop `total`; [] where there is none, or it cannot."""
    cut = crop.slice
    if cut is None:
        return []
    starts, ends = _bounds(cut, graph)
    dims, n = shape(graph, cut.input(0)) or (), len(crop.axes)
    rest = [t - o for t, o in zip(total, crop.own, strict=True)]
    if min(rest) < 0 or any(a not in starts and (rest[i] or rest[n + i]) for i, a in enumerate(crop.axes)):
        return []
    wanted = {a: (rest[i], dims[a] - rest[n + i]) for i, a in enumerate(crop.axes)}
    first, last = (graph.constant(cut, s) for s in (1, 2))
    if first is None or last is None:
        return []
    new = [np.array([wanted.get(a, (s, e))[i] for (a, s), e in zip(starts.items(), ends.values(), strict=True)],
                    old.dtype) for i, old in enumerate((first, last))]
    return [SetInput(cut.key, slot, value) for slot, value, old in zip((1, 2), new, (first, last), strict=True)
            if not np.array_equal([_within(int(v), dims[a]) for a, v in zip(starts, old, strict=True)], value)]


def head_of(cut: Node, graph: Graph) -> Node | None:
    """The ConvTranspose that a Slice crops, through a bias and Transposes; None where it crops something else."""
    node = graph.producers.get(cut.input(0))
    while node is not None and node.op in _TURNED:
        node = next((m for t in node.inputs if (m := graph.producers.get(t)) is not None), None)
    if node is None or node.op != "ConvTranspose":
        return None
    crop = crop_of(node, graph)
    return node if crop is not None and crop.slice is not None and crop.slice.key == cut.key else None


def total_of(cut: Node, graph: Graph, perm: Sequence[int] | None, crop: Crop) -> tuple[int, ...] | None:
    """The crop with another graph's Slice behind `own`. perm: target = source.transpose(perm); None: as it is."""
    dims = shape(graph, cut.input(0))
    starts, ends = _bounds(cut, graph)
    if dims is None or not starts:
        return None
    n, at = len(crop.axes), perm or tuple(range(len(dims)))
    there = [at[a] for a in crop.axes]
    return (*(crop.own[i] + starts.get(a, 0) for i, a in enumerate(there)),
            *(crop.own[n + i] + dims[a] - ends.get(a, dims[a]) for i, a in enumerate(there)))


def cropped(node: Node, graph: Graph, crop: Crop, total: Sequence[int]) -> list[Edit]:
    """Edits of the operator's own pads (and output_padding, where the crop is negative) that make the crop `total`."""
    n = len(total) // 2
    own = [t - (a - b) for t, a, b in zip(total, crop.total, crop.own, strict=True)]
    if min(own[:n]) < 0:
        return []
    more = tuple(max(-e, 0) for e in own[n:])
    pads = (*own[:n], *(max(e, 0) for e in own[n:]))
    edits: list[Edit] = [SetAttribute(node.key, a, None) for a in ("auto_pad", "output_shape") if a in node.attrs]
    old = node.attrs.get("output_padding") or (0,) * n
    if more != tuple(old):  # type: ignore[arg-type]
        edits.append(SetAttribute(node.key, "output_padding", more))
    return [*edits, SetAttribute(node.key, "pads", tuple(pads))]


def as_written(target: Node, source: Node, graph: Graph) -> list[Edit]:
    """Edits that give a ConvTranspose its twin's own pads and output_padding, as they are written there."""
    names = ("auto_pad", "output_shape", "pads", "output_padding")
    return [SetAttribute(target.key, n, source.attrs.get(n)) for n in names
            if source.attrs.get(n) != target.attrs.get(n)]
