"""Operators written as older operator sets spell them: onnx's converter knows no way below version 13.

By the schemas of both versions: inputs that were attributes once become attributes again where they are constant, and
attributes that an older version lacks go where they hold their default. What an operator computes is left alone, so
that whoever uses the result has to measure it; the few changes of meaning that are known are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import defs, helper

from fetafix.graph.expand import expanded
from fetafix.ir import Array, Attribute, Dim, Graph, Node

_SCALARS = ("min", "max", "value", "ratio")
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_ONCE_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Slice": ("starts", "ends", "axes"), "Clip": ("min", "max"), "Pad": ("pads", "value"), "Squeeze": ("axes",),
    "Unsqueeze": ("axes",), "Split": ("split",), "Dropout": ("ratio",),
    **{f"Reduce{r}": ("axes",) for r in _REDUCTIONS},
}  # fmt: skip
_LAST_AXIS_ONLY = frozenset({"Softmax", "LogSoftmax", "Hardmax"})  # before version 13 they flattened what is behind
_RESAMPLED = frozenset({"Resize", "Upsample"})  # before version 11 they knew one rule for coordinates
_COERCED, _NO_NEGATIVE_AXIS, _ONE_RULE = 13, 11, 11


def lowered(graph: Graph, version: int) -> Graph | None:
    """A fragment in the default domain's operator set `version`, older than its own; None where that cannot be said.

    `graph.shapes` are consulted for the ranks of what nodes read.
    """
    newest = graph.opset.get("", version)
    graph = expanded(graph, version)
    nodes = [lowered_node(n, graph.initializers, graph.shapes, newest, version) for n in graph.nodes]
    kept = tuple(n for n in nodes if n is not None)
    read = {t for n in kept for t in n.reads}
    tensors = {k: v for k, v in graph.initializers.items() if k in read}
    opset = {**graph.opset, "": version}
    return replace(graph, nodes=kept, initializers=tensors, opset=opset) if len(kept) == len(nodes) else None


def lowered_node(
    node: Node, tensors: Mapping[str, Array], shapes: Mapping[str, tuple[Dim, ...]], newest: int, version: int
) -> Node | None:
    """A node of operator set `newest` as operator set `version` spells it; None where it has no such operator."""
    if node.domain:
        return node
    try:
        old, new = defs.get_schema(node.op, version), defs.get_schema(node.op, newest)
    except defs.SchemaError:
        return None
    if old.since_version == new.since_version:
        return node
    if node.op in _RESAMPLED and version < _ONE_RULE:
        return None
    inputs, attrs = list(node.inputs), dict(node.attrs)
    for slot, name in enumerate(_ONCE_ATTRIBUTES.get(node.op, ()), start=1):
        if name in old.attributes and slot < len(inputs) and inputs[slot]:
            value = tensors.get(inputs[slot])
            if value is None:
                return None
            attrs[name], inputs[slot] = _attribute(name, value), ""
    if node.op == "Slice" and len(inputs) > old.max_input:
        steps = tensors.get(inputs.pop()) if len(inputs) == 5 else np.ones(1)
        if steps is None or (steps != 1).any():
            return None
    while inputs and not inputs[-1]:
        inputs.pop()
    kept = {k: v for k, v in attrs.items() if k in old.attributes}
    gone = [k for k in attrs if k not in kept and not _is_default(attrs[k], new.attributes.get(k))]
    if gone or not old.min_input <= len(inputs) <= old.max_input or len(node.outputs) > old.max_output:
        return None
    return _with_old_axis(replace(node, inputs=tuple(inputs), attrs=kept), shapes, version)


def _attribute(name: str, value: Array) -> Attribute:
    if name in _SCALARS:
        return float(np.asarray(value).reshape(()))
    return tuple(int(v) for v in np.asarray(value).ravel())


def _is_default(value: Attribute, attribute: Any) -> bool:
    if attribute is None or not attribute.default_value.name:
        return False
    default = helper.get_attribute_value(attribute.default_value)
    return bool(value == (default.decode() if isinstance(default, bytes) else default))


def _with_old_axis(node: Node, shapes: Mapping[str, tuple[Dim, ...]], version: int) -> Node | None:
    """Axes count from the front before version 11, and Softmax means another axis than the last before version 13."""
    dims = shapes.get(node.input(0))
    rank = None if dims is None else len(dims)
    if node.op in _LAST_AXIS_ONLY and version < _COERCED:
        last = node.attrs.get("axis", -1)
        if rank is None or last not in (-1, rank - 1):
            return None
        return replace(node, attrs={**node.attrs, "axis": rank - 1})
    axis = node.attrs.get("axis")
    if isinstance(axis, int) and axis < 0 and version < _NO_NEGATIVE_AXIS:
        return None if rank is None else replace(node, attrs={**node.attrs, "axis": axis % rank})
    return node
