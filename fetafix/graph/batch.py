"""Batch sizes that are written into a graph, and where they could be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.graph.constants import concrete, constant
from fetafix.ir import Graph, Node


def baked(graph: Graph) -> Iterator[tuple[Node, list[list[Edit]]]]:
    """Nodes whose constant shape begins with a batch size, each with the ways to open it."""
    for node in graph.nodes:
        shape = constant(graph, node, 1)
        if node.op not in ("Reshape", "Expand") or shape is None or shape.ndim != 1 or shape.size < 1 or shape[0] < 1:
            continue
        ways = []
        if node.op == "Expand":
            ways.append([1, *shape[1:]])
        else:
            ways.append([0, *shape[1:]])
            made = concrete(graph, node.key)
            rest = made[1:] if made is not None and len(made) == shape.size else tuple(shape[1:])
            if all(d > 0 for d in rest):
                ways.append([-1, *rest])
        yield node, [[ed.SetInput(node.key, 1, np.array(w, np.int64))] for w in ways]


def bakeable(graph: Graph) -> list[tuple[Node, list[int]]]:
    """Reshape and Flatten nodes that leave the batch open, each with its shape for a batch of one."""
    found: list[tuple[Node, list[int]]] = []
    for node in graph.nodes:
        shape = constant(graph, node, 1)
        if node.op == "Flatten" and node.attrs.get("axis", 1) == 1:
            found.append((node, [1, -1]))
        elif node.op == "Reshape" and shape is not None and shape.size > 1 and shape[0] in (0, -1):
            made = concrete(graph, node.key)
            if made is not None and (shape[0] == 0 or made[0] == (concrete(graph, graph.input_names[0]) or (0,))[0]):
                found.append((node, [1, *([-1, *made[2:]] if -1 not in shape[1:] else shape[1:].tolist())]))
    return found
