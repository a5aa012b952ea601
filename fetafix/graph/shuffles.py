"""Depth to space, as one operator or written out as Reshape, Transpose, Reshape, and the order of its channels.

A map (N, b·b·C, H, W) becomes (N, C, b·H, b·W). In mode DCR the channels are read as (b, b, C), in mode CRD as
(C, b, b) (ONNX DepthToSpace; TensorFlow's is DCR, PyTorch's pixel_shuffle CRD). With one channel in the end both are
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, InsertNode, SetAttribute, SetInput
from fetafix.graph.attributes import canonical, shape, version
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Array, Graph, Node

_PERMS: Mapping[str, tuple[int, ...]] = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}
_SINCE = 11  # before that DepthToSpace has no mode


@dataclass(frozen=True, eq=False, slots=True)
class Shuffle:
    """Depth to space in a graph. nodes: the operator, or Reshape and Transpose; block: b; channels: C."""

    nodes: tuple[Node, ...]
    mode: str
    block: int
    channels: int

    @property
    def start(self) -> str:
        """The tensor that is rearranged."""
        return self.nodes[0].input(0)

    @property
    def blamed(self) -> Node:
        """The node that decides on the order."""
        return self.nodes[-1]

    @property
    def ambiguous(self) -> bool:
        """Whether both modes do the same."""
        return self.channels == 1 or self.block == 1


def shuffles(graph: Graph) -> list[Shuffle]:
    """All of a graph, in its order."""
    made = (_operator(n, graph) if n.op == "DepthToSpace" else _written_out(n, graph) for n in graph.nodes)
    return [s for s in made if s is not None]


def _operator(node: Node, graph: Graph) -> Shuffle | None:
    dims, block = shape(graph, node.input(0)), node.attrs.get("blocksize")
    if dims is None or len(dims) != 4 or not isinstance(block, int):
        return None
    return Shuffle((node,), str(canonical(node, graph).get("mode", "DCR")), block, dims[1] // block**2)


def _written_out(node: Node, graph: Graph) -> Shuffle | None:
    """Of a Transpose: with the Reshape before it, where that splits the channels into what the permutation spreads."""
    before = graph.producers.get(node.input(0))
    if node.op != "Transpose" or before is None or before.op != "Reshape":
        return None
    whole, split = shape(graph, before.input(0)), shape(graph, before.key)
    mode = next((m for m, p in _PERMS.items() if canonical(node, graph).get("perm") == p), "")
    if not mode or whole is None or split is None or len(whole) != 4:
        return None
    block, channels = (split[1], split[3]) if mode == "DCR" else (split[2], split[1])
    depth = (block, block, channels)
    wanted = (whole[0], *(depth if mode == "DCR" else depth[::-1]), *whole[2:])
    return Shuffle((before, node), mode, block, channels) if split == wanted else None


def reordered(channels: int, block: int, wanted: str) -> Array:
    """Which channel an operator of the other mode must be given at each place to do what `wanted` says, int64."""
    places = np.arange(channels * block**2)
    if wanted == "CRD":
        return places.reshape(channels, block, block).transpose(1, 2, 0).ravel()
    return places.reshape(block, block, channels).transpose(2, 0, 1).ravel()


def switched(shuffle: Shuffle, graph: Graph, mode: str) -> list[list[Edit]]:
    """Ways to make depth to space work in a mode: its own setting, or its channels put in order before it."""
    ways: list[list[Edit]] = []
    node = shuffle.nodes[0]
    if len(shuffle.nodes) > 1:
        given = graph.constant(node, 1)
        if given is not None and given.size == 6:
            moved = given[[0, 3, 1, 2, 4, 5]] if mode == "CRD" else given[[0, 2, 3, 1, 4, 5]]
            perm = SetAttribute(shuffle.nodes[1].key, "perm", _PERMS[mode])
            ways.append([perm, *([] if np.array_equal(moved, given) else [SetInput(node.key, 1, moved)])])
    elif version(graph, node) >= _SINCE:
        ways.append([SetAttribute(node.key, "mode", mode)])
    order = tensor_like(graph, "order", node)
    name, out = like(graph, "Gather", node)
    gather = Node("Gather", (shuffle.start, order), (out,), {"axis": 1}, name)
    indices = {order: reordered(shuffle.channels, shuffle.block, mode)}
    return [*ways, [InsertNode(shuffle.start, gather, indices, ((node.key, 0),))]]
