"""Casts through integer types right behind a graph's inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fetafix.ir import Array, Graph, Node

INTEGERS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 12: "uint32", 13: "uint64"}
_FLOATS = {1, 10, 11, 16}
_MOVES = frozenset({"Transpose", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_FAR = 6


@dataclass(frozen=True)
class Chain:
    """The Casts from a float input to an integer type (of TensorProto.DataType) and back to floats."""

    input: str
    nodes: tuple[Node, ...]
    type: int


def chains(graph: Graph) -> list[Chain]:
    """All of a graph's inputs that pass through integers, behind nodes that only move values."""
    found = (_chain(graph, v.name) for v in graph.inputs if v.dtype.kind == "f")
    return [c for c in found if c is not None]


def _chain(graph: Graph, name: str) -> Chain | None:
    casts: list[Node] = []
    kind, tensor = 0, name
    for _ in range(_FAR):
        readers = graph.consumers.get(tensor, ())
        node = readers[0][0] if len(readers) == 1 and readers[0][1] == 0 else None
        if node is None or node.op not in _MOVES | {"Cast"}:
            break
        to = node.attrs.get("to")
        if node.op == "Cast" and isinstance(to, int):
            casts.append(node)
            kind = kind or (to if to in INTEGERS else 0)
            if kind and to in _FLOATS:
                return Chain(name, tuple(casts), kind)
        tensor = node.key
    return None


def cut_off(value: Array, kind: int) -> bool:
    """Whether an integer type changes some of the values."""
    info = np.iinfo(INTEGERS[kind])
    return bool(np.any((value != np.trunc(value)) | (value < info.min) | (value > info.max)))
