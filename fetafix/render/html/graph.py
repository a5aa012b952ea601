"""The surroundings of a finding as SVG: boxes for nodes, arrows for what flows, the place itself framed twice.

Names are broken into lines, not cut; only one of more than six lines loses its middle, and stands whole in the list
beside the drawing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from fetafix.exhibits import Sketch, SketchNode
from fetafix.render.html.layout import Layout, layout
from fetafix.render.html.names import flat, lines
from fetafix.render.html.svg import drawing, element
from fetafix.render.style import plural

_BOX, _GAP, _BETWEEN, _PASS, _MARGIN = 176.0, 12.0, 36.0, 26.0, 6.0
_LINE, _PAD, _HEAD = 14.0, 9.0, 19.0
_OP, _NAME, _DETAIL = 19, 23, 25  # characters a line
_LETTER = 6.2  # how wide one of what flows is
_MOST = 6
_DETAILS = re.compile(r", (?=[^\d\s−-])")


@dataclass(frozen=True)
class Box:
    """A node and where it is, its upper left corner at (x, y). lines: (class, text)."""

    node: SketchNode
    x: float
    y: float
    height: float
    lines: Sequence[tuple[str, str]]


class Place(NamedTuple):
    """The middle of a place, its upper and its lower end."""

    x: float
    top: float
    low: float


def graph(sketch: Sketch, title: str, prefix: str, twin: Sketch | None = None) -> Markup:
    """The drawing; empty where the sketch has no nodes.

    prefix: of its ids. twin: the same place in the other model; what differs from it at the finding is marked.
    """
    if not sketch.nodes:
        return Markup("")
    flows = valid(sketch)
    plan = layout(*_numbered(flows, len(sketch.nodes)))
    boxes, places, width, height = _placed([_texts(n, differing(n, twin)) for n in sketch.nodes], sketch, plan)
    told = list(_told(flows, plan, places))
    width = max(width, *(x + _LETTER * len(what) + _MARGIN for x, _, what in told), 0.0)
    content = [
        element("title", title, id=f"{prefix}title"), element("desc", described(sketch), id=f"{prefix}desc"),
        element("defs", element(
            "marker", element("path", class_="head", d="M0 0L8 4L0 8z"), id=f"{prefix}head", viewBox="0 0 8 8", refX=7,
            refY=4, markerWidth=7, markerHeight=7, orient="auto-start-reverse")),
        *_flows(flows, plan, places, f"{prefix}head"), *map(_box, boxes),
        *(element("text", what, class_="shape halo", x=x, y=y) for x, y, what in told),
    ]  # fmt: skip
    return drawing(width, height, content, class_="graph", role="img", aria_labelledby=f"{prefix}title",
                   aria_describedby=f"{prefix}desc")


def valid(sketch: Sketch) -> list[tuple[int, int, str]]:
    """The edges that lead from or to a node of the sketch; several between the same ones are one."""
    known = range(-1, len(sketch.nodes))
    merged: dict[tuple[int, int], list[str]] = {}
    for start, end, what in sketch.edges:
        if start in known and end in known and start != end:
            merged.setdefault((start, end), []).append(what)
    return [(a, b, ", ".join(dict.fromkeys(filter(None, w)))) for (a, b), w in merged.items()]


def described(sketch: Sketch) -> str:
    """The sketch in words."""
    found = [f"{n.op} {flat(n.layer)}" for n in sketch.nodes if n.role == "found"]
    words = f"{plural(len(sketch.nodes), 'operator')}, in order: {', '.join(n.op for n in sketch.nodes)}."
    return f"{words} The finding is at {' and '.join(found)}." if found else words


def _numbered(flows: Sequence[tuple[int, int, str]], nodes: int) -> tuple[int, list[tuple[int, int]]]:
    """How many nodes there are with the ends of edges that leave the drawing, and the edges between them."""
    edges = []
    for start, end, _ in flows:
        edges.append((nodes if start < 0 else start, nodes if end < 0 else end))
        nodes += start < 0 or end < 0
    return nodes, edges


def differing(node: SketchNode, twin: Sketch | None) -> set[str]:
    """Details of a finding's node that none of its twins with the same operator has."""
    twins = [n for n in twin.nodes if n.role == "found" and n.op == node.op] if twin is not None else []
    if node.role != "found" or not twins:
        return set()
    return set(_DETAILS.split(node.detail)) - {d for n in twins for d in _DETAILS.split(n.detail)}


def _texts(node: SketchNode, marked: set[str]) -> list[tuple[str, str]]:
    """(class, text) of a node's lines: its operator, its name, its details, what differs, and the finding."""
    made = [("op", line) for line in _short(lines(node.op, _OP))]
    made += [("layer", line) for line in _short(lines(node.layer, _NAME))]
    details = [d for d in _DETAILS.split(flat(node.detail)) if d]
    plain = ", ".join(d for d in details if d not in marked)
    made += [("detail", line) for line in _short(textwrap.wrap(plain, _DETAIL))]
    made += [("differs", line) for d in details if d in marked for line in _short(textwrap.wrap(f"≠ {d}", _DETAIL))]
    return [*made, ("here", "▲ the finding is here")] if node.role == "found" else made


def _placed(
    texts: Sequence[Sequence[tuple[str, str]]], sketch: Sketch, plan: Layout
) -> tuple[list[Box], dict[int, Place], float, float]:
    """The boxes, every place, and the size of the drawing."""
    nodes = range(len(texts))
    widths = [sum(_BOX if p in nodes else _PASS for p in row) + _GAP * (len(row) - 1) for row in plan.rows]
    boxes: list[Box] = []
    places: dict[int, Place] = {}
    y = _MARGIN
    for row, wide in zip(plan.rows, widths, strict=True):
        heights = {p: _HEAD + _LINE * (len(texts[p]) - 1) + 2 * _PAD - 6 for p in row if p in nodes}
        tall, x = max(heights.values(), default=0.0), _MARGIN + (max(widths) - wide) / 2
        for place in row:
            own = heights.get(place, tall)
            top = y + (tall - own) / 2
            across = _BOX if place in nodes else _PASS
            places[place] = Place(x + across / 2, top, top + own)
            if place in nodes:
                boxes.append(Box(sketch.nodes[place], x, top, own, texts[place]))
            x += across + _GAP
        y += tall + _BETWEEN
    return boxes, places, max(widths) + 2 * _MARGIN, y - _BETWEEN + _MARGIN


def _short(told: list[str]) -> list[str]:
    return told if len(told) <= _MOST else [*told[: _MOST // 2], "…", *told[-_MOST // 2 + 1:]]


def _box(box: Box) -> Markup:
    found = box.node.role == "found"
    inner = [element("title", f"{box.node.op} {flat(box.node.layer)}"),
             element("rect", class_="box", x=box.x, y=box.y, width=_BOX, height=box.height, rx=7)]
    if found:
        inner.append(element("rect", class_="frame", x=box.x + 3, y=box.y + 3, width=_BOX - 6, height=box.height - 6,
                             rx=5))  # fmt: skip
    y = box.y + _HEAD
    for kind, line in box.lines:
        inner.append(element("text", line, class_=kind, x=box.x + _PAD + 2, y=y))
        y += _LINE
    return element("g", *inner, class_="node found" if found else "node")


def _flows(
    flows: Sequence[tuple[int, int, str]], plan: Layout, places: Mapping[int, Place], head: str
) -> Iterator[Markup]:
    for (start, end, _), path in zip(flows, plan.paths, strict=True):
        kind = "flow outside" if start < 0 or end < 0 else "flow"
        yield element("path", class_=kind, d=_curve([places[p] for p in path]), marker_end=f"url(#{head})")


def _curve(through: Sequence[Place]) -> str:
    """From the lower end of one place to the upper end of the next; straight where an edge leads back."""
    first, last = through[0], through[-1]
    if first.top > last.top:
        return f"M{first.x:.1f} {first.top:.1f}" + "".join(f"L{p.x:.1f} {p.low:.1f}" for p in through[1:])
    parts = [f"M{first.x:.1f} {first.low:.1f}"]
    for a, b in pairwise(through):
        middle = (a.low + b.top) / 2
        parts.append(f"C{a.x:.1f} {middle:.1f} {b.x:.1f} {middle:.1f} {b.x:.1f} {b.top:.1f}")
        if b is not last:
            parts.append(f"L{b.x:.1f} {b.low:.1f}")
    return "".join(parts)


def _told(
    flows: Sequence[tuple[int, int, str]], plan: Layout, places: Mapping[int, Place]
) -> Iterator[tuple[float, float, str]]:
    """What flows, and where that is written: beside the last stretch of an arrow.

    Once for all that a node puts out, and for what comes from outside only where nothing else says it.
    """
    seen: set[tuple[int, str]] = set()
    inner = {(end, what) for start, end, what in flows if start >= 0}
    for (start, end, what), path in zip(flows, plan.paths, strict=True):
        if not what or (start, what) in seen or (start < 0 and (end, what) in inner):
            continue
        if start >= 0:
            seen.add((start, what))
        a, b = places[path[-2]], places[path[-1]]
        yield (a.x + b.x) / 2 + 6, (a.low + b.top) / 2 + 4, flat(what)
