"""Where a segment of the target rounds its activations: QuantizeLinear, and the DequantizeLinears that read the codes.

A grid of an activation is held twice, by what writes the codes and by what reads them; edits change both alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.errors import FetafixError
from fetafix.graph.rounding import unquantised
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node
from fetafix.quantisation import Grid, grid_for

MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool"})
_MARGIN = 1.05  # a few samples do not show the whole range
_COARSE = 12.0


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """writer: a QuantizeLinear. readers: the DequantizeLinears behind it. before: the tensor that is rounded."""

    writer: Node
    readers: tuple[Node, ...]
    written: Grid
    read: Grid

    @property
    def before(self) -> str:
        """The tensor that is rounded."""
        return self.writer.input(0)

    @property
    def agree(self) -> bool:
        """Whether codes are read on the grid that they are written on."""
        a, b = self.written, self.read
        return bool(np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point))

    def regrid(self, grid: Grid, *, write: bool = True, read: bool = True) -> list[Edit]:
        """Edits that put the writer, the readers or both on a grid."""
        nodes = [*([(self.writer, self.written)] if write else []),
                 *([(n, self.read) for n in self.readers] if read else [])]
        edits: list[Edit] = []
        for node, old in nodes:
            if not np.array_equal(old.scale, grid.scale):
                edits.append(SetInput(node.key, 1, grid.scale.reshape(old.scale.shape)))
            if not np.array_equal(old.zero_point, grid.zero_point):
                edits.append(SetInput(node.key, 2, grid.zero_point.reshape(old.zero_point.shape)))
        return edits


def places(segment: Segment) -> list[Place]:
    """All places of a segment where activations are rounded on a grid of one scale, in the target's order."""
    found: dict[str, Place] = {}
    for node in segment.target.nodes:
        writer = node if node.op == "QuantizeLinear" else None
        if node.op == "DequantizeLinear" and not segment.full.fixed(node.key):
            writer = unquantised(segment.full, node)[1]
        if writer is not None and writer.key not in found:
            place = place_of(segment.full, writer)
            if place is not None:
                found[writer.key] = place
    return list(found.values())


def place_of(graph: Graph, writer: Node) -> Place | None:
    """A QuantizeLinear with its readers; None where nobody reads its codes as numbers."""
    readers = tuple(_readers(graph, writer.key))
    written = graph.grid_of(writer)
    read = graph.grid_of(readers[0]) if readers else None
    if written is None or read is None or written.scale.size != 1 or read.scale.size != 1:
        return None
    return Place(writer, readers, written, read)


def _readers(graph: Graph, codes: str) -> Iterator[Node]:
    for node, _ in graph.consumers.get(codes, ()):
        if node.op == "DequantizeLinear":
            yield node
        elif node.op in MOVES:
            yield from _readers(graph, node.outputs[0])


def source_grid(segment: Segment, place: Place) -> Grid | None:
    """The grid on which a quantised source rounds the same tensor; None where it does not."""
    twin = segment.pairs.get(place.before)
    grids = [g for n in segment.source.nodes if n.op == "QuantizeLinear" and n.input(0) == twin
             and (g := segment.source.grid_of(n)) is not None and g.scale.size == 1]
    fits = grids and grids[0].dtype == place.written.dtype
    return grids[0] if fits else None


def only_shifted(grid: Grid, other: Grid) -> bool:
    """Whether a grid has another's scale and another zero point."""
    return np.array_equal(grid.scale, other.scale) and not np.array_equal(grid.zero_point, other.zero_point)


def true_values(segment: Segment, place: Place) -> Array | None:
    """What is rounded there, computed from the source's activations; None where that cannot be."""
    if place.before in segment.feeds:
        return segment.feeds[place.before]
    try:
        (value,) = segment.run(segment.full, segment.feeds, [place.before])
    except FetafixError:
        return None
    return np.asarray(value) if value.dtype.kind == "f" and np.isfinite(value).all() else None


def at_input(graph: Graph, place: Place) -> bool:
    """Whether what is rounded is an input of the graph, perhaps moved."""
    tensor = place.before
    while (maker := graph.producers.get(tensor)) is not None and maker.op in MOVES:
        tensor = maker.input(0)
    return tensor in graph.input_names


def reach(grid: Grid) -> tuple[float, float]:
    """The smallest and the largest number on a grid of one scale."""
    low, high = (float(v) for v in grid.values(np.array(grid.bounds, grid.dtype)))
    return low, high


def misfit(grid: Grid, values: Array) -> str | None:
    """How a grid fails values: "clips" (more than calibration on other samples does), "coarse", or None."""
    low, high = reach(grid)
    values = np.maximum(values, 0) if low == 0 else values  # saturation that does a Relu
    least, most = min(float(np.min(values)), 0.0), max(float(np.max(values)), 0.0)
    cut = values - np.clip(values, low, high)
    if float(np.linalg.norm(cut)) > 0.01 * float(np.linalg.norm(values)):
        return "clips"
    return "coarse" if 0 < most - least < (high - low) / _COARSE else None


def covering(grid: Grid, values: Array) -> Grid:
    """The grid of the same codes that covers values with a margin; both ends are those of the values."""
    ends = np.array([np.min(values), np.max(values)], np.float64) * _MARGIN
    return grid_for(ends[0], ends[1], grid.dtype, symmetric=False)


def rescaled(grid: Grid, values: Array) -> Grid:
    """The grid with the same zero point and the scale that covers values with a margin."""
    zero = float(grid.zero_point.reshape(-1)[0])
    low, high = grid.bounds
    need = [float(np.max(values)) / (high - zero) if high > zero else 0.0,
            float(np.min(values)) / (low - zero) if low < zero else 0.0]
    scale = max(*need, 1e-30) * _MARGIN
    return replace(grid, scale=np.full(grid.scale.shape, scale, grid.scale.dtype))
