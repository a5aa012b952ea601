"""The error of the converted model, layer by layer, as SVG: what travels, what each layer adds, and what is left.

Nothing is told by colour alone: lines are solid or dashed, layers that introduce error have a triangle and the number
of their finding, which leads there. Every column tells its layer's name under the pointer, those marks also where the
keyboard is; the table beside the chart tells it to everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from fetafix.exhibits import LayerError
from fetafix.render.html.layers import SERIES, known, marked, picked
from fetafix.render.html.names import flat
from fetafix.render.html.svg import drawing, element
from fetafix.render.plain import RAISED, figure
from fetafix.render.style import plural

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM = 960.0, 300.0, 66.0, 14.0, 44.0
_ROW, _BADGE, _ROWS = 22.0, 9.0, 4
_LONGEST = 160
_DECADES, _LEAST, _HIGHEST = 12, 1e-12, 300


@dataclass(frozen=True)
class Axes:
    """From layers and errors to places: `low` and `high` are powers of ten; zero lies at the bottom."""

    count: int
    low: int
    high: int
    top: float
    height: float

    def x(self, index: int) -> float:
        """The middle of a layer's column."""
        return _LEFT + (index + 0.5) * (_WIDTH - _LEFT - _RIGHT) / self.count

    def y(self, value: float) -> float:
        """The height of an error."""
        power = math.log10(value) if value > 0 else self.low
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)

    @property
    def bottom(self) -> float:
        """Where the axis of layers lies."""
        return self.height - _BOTTOM


def chart(layers: Sequence[LayerError], prefix: str = "") -> Markup:
    """The chart; empty where there is nothing to draw. prefix: of ids, and of the ids of findings that it leads to."""
    shown = picked(layers)
    values = [v for i in shown for s in SERIES if (v := known(s(layers[i]))) is not None]
    if not values:
        return Markup("")
    rows = _label_rows(layers, shown)
    depth = max(rows.values(), default=-1) + 1
    low, high = _range(values)
    top = 20.0 + depth * _ROW
    axes = Axes(len(layers), low, high, top, _HEIGHT + top)
    content = [
        element("title", "Error by layer, converted model against original", id=f"{prefix}chart-title"),
        element("desc", described(layers), id=f"{prefix}chart-desc"),
        *_grid(axes), element("g", *_columns(layers, shown, axes), aria_hidden="true"),
        *_introduced(layers, shown, axes),
        *_line(layers, shown, axes, lambda e: e.carried, "carried"),
        *_line(layers, shown, axes, lambda e: e.after, "after"),
        *_marks(layers, rows, axes, prefix),
    ]  # fmt: skip
    return drawing(_WIDTH, axes.height, content, class_="chart", role="group",
                   aria_labelledby=f"{prefix}chart-title", aria_describedby=f"{prefix}chart-desc")


def described(layers: Sequence[LayerError]) -> str:
    """What the chart shows, in words."""
    carried = [(v, e) for e in layers if (v := known(e.carried)) is not None]
    words = [f"{plural(len(layers), 'layer')} from input to output."]
    if carried:
        worst, where = max(carried, key=lambda c: c[0])
        words.append(f"The error is largest at {flat(where.target_layer)}, {figure(worst)} of the size of its values, "
                     f"and {figure(carried[-1][0])} at the last layer.")
    guilty = [flat(e.target_layer) for e in layers if marked(e)]
    words.append(f"{plural(len(guilty), 'layer')} introduce error." if len(guilty) != 1
                 else f"One layer introduces error: {guilty[0]}.")
    left = [v for e in layers if (v := known(e.after)) is not None]
    if left:
        words.append(f"After the repair the error is {figure(max(left))} at most.")
    return " ".join(words)


def _range(values: Sequence[float]) -> tuple[int, int]:
    positive = [v for v in values if v > 0] or [1.0]
    high = min(math.ceil(math.log10(max(*positive, _LEAST)) + 1e-9), _HIGHEST)
    low = math.floor(math.log10(max(min(positive), _LEAST)) - 1e-9)
    low = max(low, high - _DECADES)
    return (low, high) if high - low >= 2 else (high - 2, high)


def _grid(axes: Axes) -> Iterator[Markup]:
    step = 1 if axes.high - axes.low <= 7 else 2
    for power in range(axes.high, axes.low, -step):
        y = axes.y(10.0**power)
        yield element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
        yield element("text", _power(power), class_="tick", x=_LEFT - 8, y=y + 4, text_anchor="end")
    yield element("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=axes.bottom, y2=axes.bottom)
    yield element("text", f"≤ {_power(axes.low)}", class_="tick", x=_LEFT - 8, y=axes.bottom + 4, text_anchor="end")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield element("text", "layers of the converted model, from input (left) to output (right)", class_="tick along",
                  x=middle, y=axes.height - 8, text_anchor="middle")
    if axes.low < 0 <= axes.high:
        y = axes.y(1.0)
        yield element("line", class_="whole", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
        if (axes.high % step) != 0:
            yield element("text", "1", class_="tick", x=_LEFT - 8, y=y + 4, text_anchor="end")


def _power(power: int) -> str:
    return {0: "1", 1: "10", -1: "0.1"}.get(power, f"10{str(power).translate(RAISED)}")


def _columns(layers: Sequence[LayerError], shown: Sequence[int], axes: Axes) -> Iterator[Markup]:
    """What the pointer meets: from half-way to the layer before to half-way to the next."""
    edges = [_LEFT, *((axes.x(a) + axes.x(b)) / 2 for a, b in pairwise(shown)), _WIDTH - _RIGHT]
    for k, index in enumerate(shown):
        yield element("rect", element("title", told(layers[index])), class_="column", x=edges[k], y=axes.top,
                      width=edges[k + 1] - edges[k], height=axes.bottom - axes.top)


def told(error: LayerError) -> str:
    """A layer and its errors."""
    op = f" ({flat(error.op)})" if error.op else ""
    parts = [f"{what} {figure(v)}" for what, v in (
        ("carries", error.carried), ("adds", error.introduced), ("after repair", error.after)) if known(v) is not None]
    name = flat(error.target_layer)
    if len(name) > _LONGEST:  # the table has it whole
        name = f"{name[:_LONGEST // 2]}…{name[-_LONGEST // 2:]}"
    return f"{name}{op}: {', '.join(parts) or 'not measured'}"


def _introduced(layers: Sequence[LayerError], shown: Sequence[int], axes: Axes) -> Iterator[Markup]:
    for index in shown:
        value = known(layers[index].introduced)
        if value:
            x = axes.x(index)
            kind = "adds guilty" if marked(layers[index]) else "adds"
            yield element("line", class_=kind, x1=x, x2=x, y1=axes.bottom, y2=axes.y(value))


def _line(
    layers: Sequence[LayerError], shown: Sequence[int], axes: Axes, value: Callable[[LayerError], float | None],
    kind: str,
) -> Iterator[Markup]:
    """A line through all layers that have a value; a layer without one interrupts it."""
    runs: list[list[tuple[float, float]]] = [[]]
    for index in shown:
        v = known(value(layers[index]))
        if v is None:
            runs.append([])
        else:
            runs[-1].append((axes.x(index), axes.y(v)))
    for run in filter(None, runs):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
        yield element("polyline", class_=f"line {kind}", points=points)
        if len(run) == 1 or len(shown) <= 60:
            yield from (element("circle", class_=f"dot {kind}", cx=x, cy=y, r=2.5) for x, y in run)


def _label_rows(layers: Sequence[LayerError], shown: Sequence[int]) -> dict[int, int]:
    """In which row above the chart the label of each marked layer finds room; -1 where there is none."""
    ends = [-math.inf] * _ROWS
    rows: dict[int, int] = {}
    axes = Axes(len(layers), 0, 1, 0, 1)
    for index in shown:
        if not marked(layers[index]):
            continue
        x, half = axes.x(index), _half(layers[index])
        row = next((r for r in range(_ROWS) if ends[r] + 3 <= x - half), -1)
        if row >= 0:
            ends[row] = x + half
        rows[index] = row
    return rows


def _label(error: LayerError) -> str:
    return ", ".join(str(f + 1) for f in error.findings[:3]) + (" …" if len(error.findings) > 3 else "")


def _half(error: LayerError) -> float:
    return max(_BADGE, 4 * len(_label(error)) + 4.0)


def _marks(layers: Sequence[LayerError], rows: dict[int, int], axes: Axes, prefix: str) -> Iterator[Markup]:
    depth = max(rows.values(), default=-1) + 1
    for index, row in rows.items():
        error, x = layers[index], axes.x(index)
        heights = [known(error.introduced), known(error.carried)]
        y = axes.y(next((h for h in heights if h is not None), 0.0))
        triangle = element("path", class_="guilty mark", d=f"M{x:.1f} {y - 6:.1f}l6.5 11h-13z")
        content = [triangle]
        if row >= 0 and error.findings:
            middle = 14.0 + (depth - 1 - row) * _ROW
            half = _half(error)
            content = [
                element("line", class_="lead", x1=x, x2=x, y1=middle + _BADGE, y2=y - 8), triangle,
                element("rect", class_="badge", x=x - half, y=middle - _BADGE, width=2 * half, height=2 * _BADGE, rx=9),
                element("text", _label(error), class_="number", x=x, y=middle + 4, text_anchor="middle"),
            ]  # fmt: skip
        if error.findings:
            whose = "finding" if len(error.findings) == 1 else "findings"
            words = f"{whose} {_label(error)}: {told(error)}"
            tip = element("text", words, class_="tip", x=_LEFT, y=axes.height - 8)
            yield element("a", *content, tip, class_="mark", href=f"#{prefix}finding-{error.findings[0] + 1}",
                          aria_label=words)
        else:
            yield element("g", element("title", told(error)), *content, class_="mark")
