"""Constants of an ONNX view that are computed there from others: turned, cut, put together, dequantised.

Exporters write a layer's parameter as their format has it and let the graph rearrange it: a Linear's weight is
transposed, an LSTM's gates are sliced and put together in ONNX's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fetafix.ir import Array, Graph, Node

_DEPTH = 12


def constant_value(graph: Graph, tensor: str, depth: int = _DEPTH) -> Array | None:
    """The value of a tensor that is the same whatever the inputs are; None where it is not, or not known to be."""
    if tensor in graph.initializers:
        return graph.initializers[tensor]
    node = graph.producers.get(tensor)
    if node is None or node.domain or depth == 0:
        return None
    if node.op == "Constant":
        value = next(iter(node.attrs.values()), None)
        return None if value is None else np.asarray(value)
    compute = _OPERATORS.get(node.op)
    if compute is None:
        return None
    inputs = [constant_value(graph, t, depth - 1) if t else None for t in node.inputs]
    if any(v is None for t, v in zip(node.inputs, inputs, strict=True) if t):
        return None
    return compute(node, inputs)


def _transposed(node: Node, inputs: list[Any]) -> Array:
    perm: Any = node.attrs.get("perm")
    return np.transpose(inputs[0], perm)


def _concatenated(node: Node, inputs: list[Any]) -> Array:
    axis: Any = node.attrs.get("axis", 0)
    return np.concatenate(inputs, axis)


def _sliced(node: Node, inputs: list[Any]) -> Array | None:
    if len(inputs) < 3:
        return None
    value, starts, ends, axes, steps = (*inputs, None, None)[:5]
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    cut = [slice(None)] * value.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            return None
        cut[int(axis)] = slice(int(start), int(end), int(step))
    return np.asarray(value[tuple(cut)])


def _unsqueezed(node: Node, inputs: list[Any]) -> Array:
    axes: Any = inputs[1] if len(inputs) > 1 else node.attrs.get("axes", ())
    return np.expand_dims(inputs[0], tuple(int(a) for a in axes))


def _dequantised(node: Node, inputs: list[Any]) -> Array:
    """What a DequantizeLinear makes of constant codes, along its axis."""
    codes, scale, zero = (*inputs, None)[:3]
    axis: Any = node.attrs.get("axis", 1)
    shape = [-1 if i == axis % max(codes.ndim, 1) else 1 for i in range(codes.ndim)] if scale.size > 1 else ()
    shift = 0 if zero is None else zero.astype(np.int64).reshape(shape)
    return np.asarray((codes.astype(np.int64) - shift).astype(scale.dtype) * scale.reshape(shape))


_OPERATORS: Mapping[str, Callable[[Node, list[Any]], Array | None]] = {
    "Identity": lambda node, inputs: inputs[0], "Transpose": _transposed, "Concat": _concatenated, "Slice": _sliced,
    "Unsqueeze": _unsqueezed, "DequantizeLinear": _dequantised,
}
