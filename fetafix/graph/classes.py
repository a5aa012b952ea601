"""What lies at the end of a classifier: whether a tensor is its class scores, and what converters do to them."""

from __future__ import annotations

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.graph.constants import constant
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Array, Graph, Node

_AFTER = frozenset({
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Flatten", "Squeeze", "Reshape", "Cast", "Gather", "Slice",
    "Concat",
})


def head(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is a graph output, or becomes one by nodes that only normalise or reshape it."""
    for _ in range(8):
        if tensor in graph.output_names:
            return True
        readers = graph.consumers.get(tensor, ())
        if not readers or any(n.op not in _AFTER for n, _ in readers):
            return False
        tensor = readers[0][0].key
    return False


def softmax(x: Array, axis: int, op: str = "Softmax") -> Array:
    """Softmax or LogSoftmax along an axis, in float64."""
    shifted = x.astype(np.float64) - x.max(axis=axis, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=axis, keepdims=True)
    result: Array = exps / total if op == "Softmax" else shifted - np.log(total)
    return result


def rows(graph: Graph, node: Node, order: Array) -> list[Edit] | None:
    """The rows (classes) of a fully connected layer's weight and bias in another order."""
    weight, bias = constant(graph, node, 1), constant(graph, node, 2)
    if node.op == "Add":
        layer = next((graph.producers[t] for t in node.inputs if t in graph.producers), None)
        slot = next((i for i, t in enumerate(node.inputs) if graph.fixed(t)), 1)
        vector = constant(graph, node, slot)
        inner = rows(graph, layer, order) if layer is not None and layer.op == "MatMul" else None
        return None if inner is None or vector is None else [*inner, ed.SetInput(node.key, slot, vector[..., order])]
    if node.op not in ("Gemm", "MatMul") or weight is None or weight.ndim != 2:
        return None
    axis = 0 if node.op == "Gemm" and node.attrs.get("transB") else 1
    edits: list[Edit] = [ed.SetInput(node.key, 1, np.ascontiguousarray(np.take(weight, order, axis)))]
    if node.op == "Gemm" and bias is not None and bias.size > 1:
        edits.append(ed.SetInput(node.key, 2, np.ascontiguousarray(bias[..., order])))
    return edits


def moved(graph: Graph, tensor: str, order: Array) -> list[Edit] | None:
    """The rows of the last layer before an output in another order; None where no such layer is there."""
    maker = graph.producers.get(tensor)
    while maker is not None and maker.op in ("Softmax", "LogSoftmax", "Sigmoid"):
        maker = graph.producers.get(maker.input(0))
    return rows(graph, maker, order) if maker is not None else None


def gathered(graph: Graph, tensor: str, order: Array, axis: int = 1) -> list[Edit]:
    """A Gather that puts the classes of a tensor in another order."""
    maker = graph.producers.get(tensor)
    name, (label, out) = tensor_like(graph, "indices", maker), like(graph, "Gather", maker)
    node = Node("Gather", (tensor, name), (out,), {"axis": axis}, label)
    return [ed.InsertNode(tensor, node, {name: order.astype(np.int64)})]


def shifts(count: int) -> list[int]:
    """By how many places the classes of an output are rolled by mistake."""
    return [k for k in (*range(-3, 4), count // 2) if k]
