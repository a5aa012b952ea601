"""Normalisations over the features of a token: as one operator, or spelled out as mean, variance, Sqrt and division."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.graph.attributes import canonical
from fetafix.ir import Graph, Node

OPERATORS = frozenset({
    "LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "RMSNormalization",
    "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization",
})
_ROOTS = frozenset({"Sqrt", "Pow", "Rsqrt"})


@dataclass(frozen=True, slots=True)
class Norm:
    """The node that holds ε: the operator (slot −1), or the Add before a Sqrt with its constant in `slot`."""

    node: Node
    slot: int
    epsilon: float

    def edit(self, graph: Graph, epsilon: float) -> Edit:
        """The edit that gives it another ε."""
        if self.slot < 0:
            return SetAttribute(self.node.key, "epsilon", float(epsilon))
        old = np.asarray(graph.constant(self.node, self.slot))
        return SetInput(self.node.key, self.slot, np.full_like(old, epsilon))


def norms(graph: Graph) -> list[Norm]:
    """All normalisations of a graph that are recognised, in order."""
    return [n for node in graph.nodes if (n := norm_of(graph, node)) is not None]


def norm_of(graph: Graph, node: Node) -> Norm | None:
    """The normalisation whose ε a node holds; None for all other nodes."""
    if node.op in OPERATORS:
        usual = 1e-12 if node.domain else 1e-5
        return Norm(node, -1, float(canonical(node, graph).get("epsilon", usual)))
    readers = [n.op for n, _ in graph.consumers.get(node.key, ())]
    if node.op != "Add" or not readers or not set(readers) <= _ROOTS:
        return None
    for slot in range(2):
        maker, value = graph.producers.get(node.input(1 - slot)), graph.constant(node, slot)
        if maker is not None and maker.op == "ReduceMean" and value is not None and value.size == 1:
            return Norm(node, slot, float(value.reshape(-1)[0]))
    return None


def centres(node: Node, graph: Graph) -> bool:
    """Whether a node takes a tensor's mean off it: part of a normalisation, and no join of branches."""
    means = (graph.producers.get(t) for t in node.inputs if t)
    return any(m is not None and m.op == "ReduceMean" and m.input(0) in node.inputs for m in means)
