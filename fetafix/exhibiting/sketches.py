"""The graphs around a finding, small enough to draw: what was found, what comes right before and right behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fetafix.exhibiting.details import detail
from fetafix.exhibiting.places import Place
from fetafix.exhibits import Neighbourhood, Sketch, SketchNode
from fetafix.findings import Names
from fetafix.ir import Graph

MOST, HOPS = 9, 2


@dataclass(frozen=True, slots=True)
class Box:
    """A node to draw, with the tensors that it reads (constants left out) and makes."""

    layer: str
    op: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def neighbourhood(place: Place, names: tuple[Names, Names], shapes: Mapping[str, Any]) -> Neighbourhood:
    """Both sides of a finding. shapes: of the target's tensors, as far as they are known from elsewhere."""
    source, target = place.graphs
    theirs = _side(source, names[0], place.source, place.segment[1], source.shapes)
    if theirs is not None and place.beside:
        theirs = msgspec.structs.replace(
            theirs, nodes=[msgspec.structs.replace(n, role="near") for n in theirs.nodes])
    return Neighbourhood(
        source=theirs,
        target=_side(target, names[1], place.target, place.segment[0], {**shapes, **target.shapes}),
    )


def _side(
    graph: Graph, names: Names, found: str | None, region: frozenset[str], shapes: Mapping[str, Any]
) -> Sketch | None:
    if found is None or found not in graph.producers:
        return None
    nodes = [n for n in graph.nodes if not graph.fixed(n.key)]
    boxes = [Box(names.layer(n.key) or n.key, n.op, tuple(t for t in n.reads if not graph.fixed(t)),
                 tuple(o for o in n.outputs if o)) for n in nodes]
    known = {t: s for t in (*shapes, *graph.input_names) if (s := shapes.get(t)) is not None}
    return sketch(boxes, {found}, known, graph.output_names, region, lambda i: detail(nodes[i], graph))


def sketch(
    boxes: Sequence[Box], found: Iterable[str], shapes: Mapping[str, Sequence[Any]], outputs: Iterable[str] = (),
    region: Iterable[str] = (), details: Callable[[int], str] = lambda _: "",
) -> Sketch | None:  # fmt: skip
    """The boxes that make tensors of `found`, and those up to HOPS before and behind: MOST in all; None where none is.

    boxes: in the order in which they run. region: tensors of the part that was wrong; of boxes equally near, those that
    make them come first. details: a box's attributes in words, by its position.
    """
    makers = {t: i for i, box in enumerate(boxes) for t in box.makes}
    starts = sorted({makers[t] for t in found if t in makers})[:MOST]
    if not starts:
        return None
    chosen = sorted(_near(boxes, makers, starts, {makers[t] for t in region if t in makers}))
    at = {i: place for place, i in enumerate(chosen)}
    nodes = [SketchNode(layer=boxes[i].layer, op=boxes[i].op, detail=details(i),
                        role="found" if i in starts else "near") for i in chosen]
    return Sketch(nodes=nodes, edges=_edges(boxes, at, makers, shapes, set(outputs)))


def _near(boxes: Sequence[Box], makers: Mapping[str, int], starts: Sequence[int], region: set[int]) -> set[int]:
    readers: dict[str, list[int]] = {}
    for i, box in enumerate(boxes):
        for tensor in box.reads:
            readers.setdefault(tensor, []).append(i)
    chosen, frontier = set(starts), list(starts)
    for _ in range(HOPS):
        before = [makers[t] for i in frontier for t in boxes[i].reads if t in makers]
        behind = [r for i in frontier for t in boxes[i].makes for r in readers.get(t, ())]
        fresh = [i for i in dict.fromkeys((*before, *behind)) if i not in chosen]
        fresh.sort(key=lambda i: (i not in region, min(abs(i - s) for s in starts), i))
        frontier = fresh[: MOST - len(chosen)]
        chosen.update(frontier)
    return chosen


def _edges(
    boxes: Sequence[Box], at: Mapping[int, int], makers: Mapping[str, int], shapes: Mapping[str, Sequence[Any]],
    outputs: set[str],
) -> list[tuple[int, int, str]]:  # fmt: skip
    """Between the boxes drawn, into them, and out of them; those that leave only once a tensor."""
    read = {t for i, box in enumerate(boxes) if i not in at for t in box.reads}
    edges = [(at.get(makers.get(t, -1), -1), place, _flows(shapes.get(t)))
             for i, place in at.items() for t in boxes[i].reads]
    edges += [(place, -1, _flows(shapes.get(t))) for i, place in at.items() for t in boxes[i].makes
              if t in read or t in outputs]
    return sorted(dict.fromkeys(edges))


def _flows(shape: Sequence[Any] | None) -> str:
    return "" if shape is None else "×".join("?" if d is None else str(d) for d in shape)
