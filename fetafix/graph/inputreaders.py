"""What reads a graph input first, and what it makes of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Graph, Node

_THROUGH = frozenset({"Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})
_FAR = 4


@dataclass(frozen=True)
class Claim:
    """Target input → the target input whose values it should get; after: the error that is left where that shows."""

    moved: Mapping[str, str]
    after: float


def readers(graph: Graph, tensor: str) -> list[Node]:
    """The nodes with constants that read an input and nothing else computed, behind nodes that only move values."""
    found: list[Node] = []
    queue = [tensor]
    for _ in range(_FAR):
        nodes = [n for t in queue for n, slot in graph.consumers.get(t, ()) if slot >= 0]
        queue = []
        for node in nodes:
            alone = all(graph.fixed(t) for t in node.inputs if t and t not in graph.producers and t != tensor)
            held = any(c.size > 1 and c.dtype.kind == "f" for t in node.inputs if (c := graph.value_of(t)) is not None)
            if alone and held:
                found.append(node)
            elif node.op in _THROUGH:
                queue += [o for o in node.outputs if o]
    return found


def answers(graph: Graph, tensor: str, value: Array) -> list[Array]:
    """What those nodes make of a value of the input. Raises RuntimeCrash where they cannot run."""
    evaluator = Evaluator()
    found = []
    for node in readers(graph, tensor):
        piece = graph.between([tensor], [node.key])
        if set(piece.input_names) <= {tensor}:
            found += evaluator.run(piece, {tensor: value}, [node.key])
    return found
