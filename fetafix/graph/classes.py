"""What lies at the end of a classifier: whether a tensor is its class scores, and what converters do to them."""

from __future__ import annotations

import numpy as np

from fetafix.ir import Array, Graph

_AFTER = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Flatten", "Squeeze", "Reshape", "Cast", "Gather", "Slice",
                    "Concat"})


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
    return exps / total if op == "Softmax" else shifted - np.log(total)
