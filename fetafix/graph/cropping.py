"""What a transposed convolution's full output is cropped by: pads, output_padding, and a Slice right behind.

The full output of size s·(i−1) + d·(k−1) + 1 loses `pads` at its ends and gains output_padding at the end (ONNX's
ConvTranspose); a Slice behind takes more away. Only their sums count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.graph.attributes import canonical, shape, version
from fetafix.ir import Graph, Node

_TURNED = ("Transpose", "Add", "Relu", "Identity")


@dataclass(frozen=True, slots=True)
class Crop:
    """Effective crop, (begin…, end…) over the spatial axes; negative at the end where output_padding adds more.

    own: without Slices. slices: those behind that crop spatial axes by constants, each with where the spatial axes are
    in its tensor.
    """

    own: tuple[int, ...]
    total: tuple[int, ...]
    slices: tuple[tuple[Node, tuple[int, ...]], ...] = ()


def crop_of(node: Node, graph: Graph) -> Crop | None:
    """The crop of a ConvTranspose; None where its pads or shapes are unknown."""
    values, out = canonical(node, graph), shape(graph, node.key)
    pads, more = values.get("pads"), values.get("output_padding")
    if pads is None or more is None or out is None:
        return None
    n = len(more)
    own = (*pads[:n], *(p - m for p, m in zip(pads[n:], more, strict=True)))
    slices, total = tuple(_slices_behind(node, graph, len(out))), list(own)
    for cut, axes in slices:
        starts, ends = _bounds(cut, graph)
        dims = shape(graph, cut.input(0)) or ()
        for i, a in enumerate(axes):
            total[i] += starts.get(a, 0)
            total[n + i] += dims[a] - ends.get(a, dims[a])
    return Crop(own, tuple(total), slices)


def _slices_behind(node: Node, graph: Graph, rank: int) -> Iterator[tuple[Node, tuple[int, ...]]]:
    """The Slices that alone read a ConvTranspose, perhaps through a bias or Transposes, and the spatial axes there."""
    axes = tuple(range(2, rank))
    current = node
    while True:
        readers = graph.consumers.get(current.key, ())
        if len(readers) != 1 or current.key in graph.output_names:
            return
        current = readers[0][0]
        if current.op == "Transpose":
            perm = list(canonical(current, graph).get("perm", ()))
            axes = tuple(perm.index(a) for a in axes)
        elif current.op == "Slice":
            starts, _ = _bounds(current, graph)
            if not starts or not set(starts) <= set(axes):
                return
            yield current, axes
        elif current.op not in _TURNED:
            return


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
    """Edits of the Slices that make the whole crop `total`; [] where there are none, or they cannot."""
    n = len(total) // 2
    rest = [t - o for t, o in zip(total, crop.own, strict=True)]
    held = [i for cut, axes in crop.slices for i, a in enumerate(axes) if a in _bounds(cut, graph)[0]]
    if not crop.slices or min(rest) < 0 or len(set(held)) < len(held):
        return []
    if any((rest[i] or rest[n + i]) and i not in held for i in range(n)):
        return []
    return [edit for cut, axes in crop.slices for edit in _moved(cut, axes, rest, graph)]


def _moved(cut: Node, axes: Sequence[int], rest: Sequence[int], graph: Graph) -> Iterator[Edit]:
    """Edits that let a Slice take `rest` (begin…, end…) away on those axes that it cuts."""
    starts, ends = _bounds(cut, graph)
    dims, n = shape(graph, cut.input(0)) or (), len(axes)
    wanted = {a: (rest[i], dims[a] - rest[n + i]) for i, a in enumerate(axes)}
    for which, (slot, now) in enumerate(((1, starts), (2, ends))):
        old = graph.constant(cut, slot)
        new = [wanted.get(a, (starts[a], ends[a]))[which] for a in now]
        if old is not None and new != list(now.values()):
            yield SetInput(cut.key, slot, np.array(new, old.dtype))


def head_of(cut: Node, graph: Graph) -> Node | None:
    """The ConvTranspose that a Slice crops, through a bias, Transposes and Slices; None for anything else."""
    node = graph.producers.get(cut.input(0))
    while node is not None and (node.op in _TURNED or node.op == "Slice"):
        node = next((m for t in node.inputs if (m := graph.producers.get(t)) is not None), None)
    crop = crop_of(node, graph) if node is not None and node.op == "ConvTranspose" else None
    return node if crop is not None and any(c.key == cut.key for c, _ in crop.slices) else None


def total_of(cut: Node, twin: Node, source: Graph, perm: Sequence[int] | None, crop: Crop) -> tuple[int, ...] | None:
    """The crop with a source Slice's bounds in place of a target's. perm: target = source.transpose(perm), or None."""
    dims = shape(source, twin.input(0))
    starts, ends = _bounds(twin, source)
    axes = next((axes for c, axes in crop.slices if c.key == cut.key), ())
    if dims is None or not starts or not axes:
        return None
    n, total = len(axes), list(crop.total)
    for i, a in enumerate(axes):
        at = perm[a] if perm else a
        if at in starts:
            total[i] = crop.own[i] + starts[at]
            total[n + i] = crop.own[n + i] + dims[at] - ends[at]
    return tuple(total)


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


def unsliced(node: Node, graph: Graph, crop: Crop, total: Sequence[int]) -> list[Edit]:
    """Edits that make the whole crop `total` by the operator's own pads, and the Slices behind take nothing away."""
    own = cropped(node, graph, Crop(crop.own, crop.own), total)
    for cut, _ in crop.slices if own else ():
        starts, ends = (graph.constant(cut, s) for s in (1, 2))
        if starts is None or ends is None:
            return []
        own += [SetInput(cut.key, 1, np.zeros_like(starts)),
                SetInput(cut.key, 2, np.full_like(ends, np.iinfo(ends.dtype).max))]
    return own


def as_written(target: Node, source: Node, graph: Graph) -> list[Edit]:
    """Edits that give a ConvTranspose its twin's own pads and output_padding, as they are written there."""
    names = ("auto_pad", "output_shape", "pads", "output_padding")
    return [SetAttribute(target.key, n, source.attrs.get(n)) for n in names
            if source.attrs.get(n) != target.attrs.get(n)]
