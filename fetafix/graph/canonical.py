"""The canonical form of a lifted graph: constants in place, no nodes that do nothing.

Only such nodes go whose absence changes no value, and every node that stays keeps its key and its input slots, so an
edit found in the canonical graph fits the graph as lifted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fetafix.edits import prune
from fetafix.errors import RuntimeCrash
from fetafix.graph.evaluate import Evaluator
from fetafix.ir import Array, Body, Graph, Node

_FOLD_UP_TO = 1 << 22
_NEVER_FOLDED = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "DequantizeLinear",
    "QuantizeLinear",
    "If",
    "Loop",
    "Scan",
}


def canonical(graph: Graph, evaluator: Evaluator) -> Graph:
    """The graph with constants folded into initializers, Identity and idle Dropout taken out, dead nodes dropped."""
    tensors: dict[str, Array] = dict(graph.initializers)
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    pinned = set(graph.output_names) | {
        c for n in graph.nodes for a in n.attrs.values() if isinstance(a, Body) for c in a.captures
    }
    for original in graph.nodes:
        node = _resolved(original, alias)
        value = _constant(node)
        if value is not None and node.key not in pinned:
            tensors[node.key] = value
        elif _idle(node, tensors) and node.key not in pinned:
            alias[node.outputs[0]] = node.inputs[0]
        elif not pinned & set(node.outputs) and _folded(node, tensors, graph, evaluator):
            continue
        else:
            nodes.append(node)
    shapes = {**graph.shapes, **{k: v.shape for k, v in tensors.items()}}
    return prune(replace(graph, nodes=tuple(nodes), initializers=tensors, shapes=shapes))


def constants_in_place(graph: Graph) -> Graph:
    """The graph with the values of Constant nodes among its initializers."""
    values = {n.key: _constant(n) for n in graph.nodes}
    tensors = {**graph.initializers, **{k: v for k, v in values.items() if v is not None}}
    return replace(graph, nodes=tuple(n for n in graph.nodes if values[n.key] is None), initializers=tensors)


def _resolved(node: Node, alias: Mapping[str, str]) -> Node:
    if not any(t in alias for t in node.inputs):
        return node
    return replace(node, inputs=tuple(alias.get(t, t) for t in node.inputs))


def _constant(node: Node) -> Array | None:
    """The value of a Constant node; None for other nodes and for strings."""
    if node.op != "Constant" or node.domain:
        return None
    for name, value in node.attrs.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    return None


def _idle(node: Node, tensors: Mapping[str, Array]) -> bool:
    """Whether a node only hands its input on (Dropout does so outside training)."""
    if node.domain or not node.input(0):
        return False
    if node.op == "Identity":
        return True
    if node.op != "Dropout" or len([o for o in node.outputs if o]) > 1:
        return False
    training = node.input(2)
    return not training or (training in tensors and not tensors[training].any())


def _folded(node: Node, tensors: dict[str, Array], graph: Graph, evaluator: Evaluator) -> bool:
    """Compute a node whose inputs are all constant and put its outputs among the tensors; False where that is unfit."""
    inputs = [t for t in node.inputs if t]
    if not inputs or node.op in _NEVER_FOLDED or any(t not in tensors for t in inputs):
        return False
    single = Graph((node,), {t: tensors[t] for t in inputs}, (), (), graph.opset)
    outputs = [o for o in node.outputs if o]
    try:
        values = evaluator.run(single, {}, outputs)
    except RuntimeCrash:
        return False
    if sum(v.size for v in values) > max(_FOLD_UP_TO, 2 * sum(tensors[t].size for t in inputs)):
        return False
    tensors.update(zip(outputs, values, strict=True))
    return True
