"""A transposed convolution is cropped or extended at another side.

*What goes wrong*
torch crops `padding` on both sides and adds `output_padding` at the end; TensorFlow's SAME crops less at the beginning;
converters write one as the other, or crop by a Slice at the wrong place. Sums agree, so the shape stays.

*How it shows*
The map is shifted by a pixel or a phase of the stride: effective crops (pads less output_padding, and a Slice behind)
of the twins differ.

*Repair*
Crop as the source does: in the pads alone, as the source writes it, or in the Slice.

*When not to apply*
NO-OP: output_padding against pads that are smaller by as much at the end.

*Seen in*
onnx2keras#89, onnx2tf#56
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.cropping import Crop, as_written, crop_of, cropped, head_of, sliced, total_of, unsliced
from fetafix.graph.segment import Segment
from fetafix.graph.twins import layout, twins
from fetafix.ir import Graph, Node

CODE = "lh-convT-outpad"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other effective crops, where the source's help: of the operators, or of the Slices behind them."""
    if segment.healed(segment.error):
        return
    for target, source in twins(segment):
        if target.op == source.op == "ConvTranspose":
            ours, theirs = crop_of(target, segment.full), crop_of(source, segment.source)
            if ours is not None and theirs is not None and ours.total != theirs.total:
                ways = _ways(segment, target, source, ours, theirs)
                yield from _claim(segment, target, source, ours.total, theirs.total, ways)
        elif target.op == source.op == "Slice" and (head := head_of(target, segment.full)) is not None:
            crop = crop_of(head, segment.full)
            perm = layout(segment, target, source)
            wanted = crop and total_of(target, source, segment.source, perm, crop)
            if crop is not None and wanted and wanted != crop.total:
                ways = [sliced(segment.full, crop, wanted)]
                yield from _claim(segment, target, source, crop.total, wanted, ways)


def _claim(
    segment: Segment, node: Node, twin: Node, ours: tuple[int, ...], theirs: tuple[int, ...], ways: list[list[Edit]]
) -> Iterator[Suspicion]:
    error, found = best(segment, [w for w in ways if w])
    if found and error < segment.error:
        yield Suspicion(CODE, node.key, twin.key, sureness(segment, error, 0.96),
                        {"crop": list(ours), "source_crop": list(theirs)},
                        f"cropped by {list(ours)}, in the source by {list(theirs)}", found)


def _ways(segment: Segment, target: Node, source: Node, ours: Crop, theirs: Crop) -> list[list[Edit]]:
    graph = segment.full
    ways = [sliced(graph, ours, theirs.total), cropped(target, graph, ours, theirs.total)]
    if ours.slices and not theirs.slices:
        ways.append(unsliced(target, graph, ours, theirs.total))
    if not theirs.slices and not ours.slices:
        ways.append(as_written(target, source, segment.source))
    return [w for w in ways if w]


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's crop, as the target's form has it."""
    return suspicion.data  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[list[Edit]]:
    """Crops moved by one pixel, from one side to the other, on all axes that allow it."""
    crop = crop_of(node, graph)
    if crop is None or "auto_pad" in node.attrs or shape(graph, node.key) is None:
        return []
    n = len(crop.total) // 2
    made = []
    for step in (1, -1):
        moved = [(b - step, e + step) for b, e in zip(crop.total[:n], crop.total[n:], strict=True)]
        floor = [min(0, -int(p)) for p in canonical(node, graph)["output_padding"]]
        fits = [m if m[0] >= 0 and m[1] >= f else None for m, f in zip(moved, floor, strict=True)]
        if any(fits):
            both = [m or (b, e) for m, b, e in zip(fits, crop.total[:n], crop.total[n:], strict=True)]
            total = (*(b for b, _ in both), *(e for _, e in both))
            made.append(sliced(graph, crop, total) or cropped(node, graph, crop, total))
    return [m for m in made if m]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The crop of a transposed convolution moves by a pixel; what output_padding adds becomes part of it."""
    places = [e for n in graph.nodes if n.op == "ConvTranspose" and not n.domain for e in _wrong(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Transposed convolution cropped elsewhere", "LH", detect, propose, inject)
