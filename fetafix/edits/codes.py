"""Constants that are stored quantised get new values on their own grid: the codes change, the form stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fetafix.edits.surgery import exchanged, fresh, prune
from fetafix.ir import Array, Graph, Node
from fetafix.quantisation import Grid

_BIASED = {"Conv": 2, "Gemm": 2, "ConvTranspose": 2}


def stored(graph: Graph, node: Node, slot: int, value: Array) -> Graph | None:
    """The graph with a value in a slot that reads quantised codes; None where the slot holds no codes, and should not.

    The grid stays as it is, but for the slices where the value would saturate. A bias that is new to a layer of codes
    is stored as runtimes want it: int32 on the scale of the input times that of the weight.
    """
    tensor = node.input(slot)
    grid = graph.grid(tensor) if tensor else _bias_grid(graph, node, slot)
    if grid is None or not grid.fits(value.shape):
        return None
    if not tensor:
        return _inserted(graph, node, slot, value, grid)
    maker = graph.producers[tensor]
    if graph.initializers[maker.input(0)].shape != value.shape:
        return None
    covering = grid.covering(value)
    if len(graph.consumers.get(tensor, ())) > 1 or tensor in graph.output_names:
        return _inserted(graph, node, slot, value, covering)
    tensors = dict(graph.initializers)
    changes = {0: covering.codes(value)} | ({} if covering is grid else {1: covering.scale})
    for place, new in changes.items():
        old = maker.input(place)
        alone = len(graph.consumers[old]) == 1
        name = old if alone else fresh(graph, old)
        tensors[name] = new
        maker = maker.with_input(place, name)
    return exchanged(graph, {maker.key: maker}, initializers=tensors)


def _inserted(graph: Graph, node: Node, slot: int, value: Array, grid: Grid) -> Graph:
    """A DequantizeLinear of its own for one reader."""
    base = fresh(graph, f"{node.key}_in{slot}")
    names = [fresh(graph, f"{base}_{part}") for part in ("codes", "scale", "zero")]
    tensors = dict(zip(names, (grid.codes(value), grid.scale, grid.zero_point), strict=True))
    attrs: Mapping[str, int] = {} if grid.axis is None else {"axis": grid.axis}
    made = Node("DequantizeLinear", tuple(names), (base,), attrs, base)
    nodes = tuple(m for n in graph.nodes for m in ((made, n.with_input(slot, base)) if n is node else (n,)))
    return replace(graph, nodes=nodes, initializers={**graph.initializers, **tensors})


def _bias_grid(graph: Graph, node: Node, slot: int) -> Grid | None:
    if _BIASED.get(node.op) != slot:
        return None
    weight, maker = graph.grid(node.input(1)), graph.producers.get(node.input(0))
    data = graph.grid_of(maker) if maker is not None and maker.op == "DequantizeLinear" else None
    if weight is None or data is None or data.scale.size != 1:
        return None
    scale = np.asarray(weight.scale * data.scale.reshape(()), np.float32)
    return Grid(scale, np.zeros(scale.shape, np.int32), None if scale.size == 1 else 0, np.dtype(np.int32))


def without(graph: Graph, tensor: str) -> Graph:
    """The graph without the DequantizeLinear of a constant that nobody reads any more."""
    return prune(graph) if graph.grid(tensor) is not None and tensor not in graph.consumers else graph


def changed(graph: Graph, tensor: str, value: Array) -> int:
    """How many elements of a constant another value of the same shape changes: of the codes, where there are some."""
    old, grid = graph.value_of(tensor), graph.grid(tensor)
    if old is None:
        return value.size
    if grid is not None:
        codes = graph.initializers[graph.producers[tensor].input(0)]
        return int(np.count_nonzero(codes != grid.codes(value)))
    return int(np.count_nonzero(old != value))
