"""Activations of a graph as units: one node, or a gate x · f(x) that older operator sets spell in two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fetafix.ir import Graph, Node

ACTIVATIONS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
    "Softsign", "Clip", "ThresholdedRelu", "Gelu", "Mish", "Swish", "Erf", "Exp", "Abs", "Sqrt", "Neg",
})
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softplus"})
_ALIKE = {"Clip": "Relu"}


@dataclass(frozen=True)
class Unit:
    """`nodes` compute tensor `end` from tensor `start`; `kind` names the function without its parameters."""

    kind: str
    nodes: tuple[Node, ...]
    start: str

    @property
    def end(self) -> str:
        """The tensor that the unit makes."""
        return self.nodes[-1].key


def units(graph: Graph) -> list[Unit]:
    """All activations, in order; Clip counts as Relu (its bounds are parameters)."""
    gated: dict[str, Unit] = {}
    for node in graph.nodes:
        if node.op == "Mul" and len(node.inputs) == 2:
            for inner, outer in (node.inputs, node.inputs[::-1]):
                gate = graph.producers.get(inner)
                if gate is not None and gate.op in _GATES and gate.input(0) == outer:
                    gated[gate.key] = Unit(f"x·{gate.op}", (gate, node), outer)
    made = [gated.get(n.key) or Unit(_ALIKE.get(n.op, n.op), (n,), n.input(0)) for n in graph.nodes
            if n.op in ACTIVATIONS and n.domain in ("", "com.microsoft") and n.input(0)]
    return made


def surplus(ours: list[Unit], theirs: list[Unit]) -> tuple[Counter[str], Counter[str]]:
    """(kinds that only the first has too many of, kinds that only the second has), by count."""
    a, b = Counter(u.kind for u in ours), Counter(u.kind for u in theirs)
    return a - b, b - a
