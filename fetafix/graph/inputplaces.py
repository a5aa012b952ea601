"""Where preprocessing can be baked into a graph: its float inputs that look like images, and nodes put behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.graph.constants import concrete, constant
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Array, Attribute, Graph, Node

New = tuple[str, Mapping[str, Attribute], Array | None]


@dataclass(frozen=True)
class Place:
    """A float input of rank 4 with few channels (`axis`), or of rank 3 without a channel axis."""

    name: str
    rank: int
    axis: int | None
    channels: int
    spatial: tuple[int, int] | None
    dtype: np.dtype[Any]


def places(graph: Graph) -> list[Place]:
    """All image-like inputs of a graph."""
    found = []
    for value in graph.inputs:
        dims = concrete(graph, value.name) or ()
        if not np.issubdtype(value.dtype, np.floating) or not graph.consumers.get(value.name):
            continue
        if len(dims) == 3 and min(dims[1:]) > 4:
            found.append(Place(value.name, 3, None, 1, (1, 2), value.dtype))
        axis = next((a for a in (1, 3) if len(dims) == 4 and dims[a] in (1, 3, 4)), None)
        if axis is not None:
            spatial = (2, 3) if axis == 1 else (1, 2)
            found.append(Place(value.name, 4, axis, dims[axis], spatial, value.dtype))
    return found


def inserted(graph: Graph, place: Place, nodes: Sequence[New]) -> list[Edit]:
    """Nodes (operator, attributes, constant) put one behind the other after the input, named as the graph names."""
    edits: list[Edit] = []
    tensor, current = place.name, graph
    near = next((n for n, _ in graph.consumers.get(place.name, ())), None)
    for op, attrs, value in nodes:
        name, out = like(current, op, near)
        role = {"Gather": "indices", "Mul": "scale", "Div": "divisor", "Sub": "offset"}.get(op, "shift")
        made = {} if value is None else {tensor_like(current, role, near): value}
        edit = ed.InsertNode(tensor, Node(op, (tensor, *made), (out,), attrs, name), made)
        edits.append(edit)
        current, tensor = edit.apply(current), out
    return edits


def retuned(
    graph: Graph, place: Place, rng: np.random.Generator, change: Callable[[Array], Array | None]
) -> list[Edit] | None:
    """The constant of one of the first arithmetic nodes at the input changed; None where there is none to change."""
    able: list[Edit] = []
    tensor = place.name
    for _ in range(6):
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0][0].op not in ("Mul", "Div", "Add", "Sub", "Transpose", "Identity", "Cast"):
            break
        node, slot = readers[0]
        held = constant(graph, node, 1 - slot)
        value = change(held) if held is not None and node.op in ("Mul", "Div", "Add", "Sub") else None
        if held is not None and value is not None and not np.array_equal(held, value):
            able.append(ed.SetInput(node.key, 1 - slot, np.ascontiguousarray(value)))
        tensor = node.key
    return [able[int(rng.integers(len(able)))]] if able else None
