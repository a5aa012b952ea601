"""Constants of edits in the precision of the graph that they go into.

Repairs are computed in float32. In a float16 (or float64, bfloat16) graph their constants take the dtype of the tensor
that they replace or join, or the runtime would refuse the mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from fetafix.edits import Edit, InsertNode, ReplaceSegment, SetInput, SetOperator
from fetafix.formats.onnx import shapes as onnx_shapes
from fetafix.formats.onnx.widened import widened
from fetafix.ir import Array, Graph

_MIXED = {"Resize", "Upsample"}  # their scales are float32 whatever the dtype of their data
TypeOf = Callable[[str], "np.dtype[Any] | None"]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is a float; ml_dtypes' bfloat16 and float8 count, which numpy knows as kind V."""
    return bool(dtype.kind == "f" or dtype.name.startswith(("bfloat", "float")))


def fitted(model: onnx.ModelProto, graph: Graph, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The edits with their float constants in the graph's precision."""
    if not any(isinstance(e, SetInput | InsertNode | ReplaceSegment | SetOperator) for e in edits):
        return tuple(edits)
    known: dict[str, np.dtype[Any]] = {k: v.dtype for k, v in graph.initializers.items()}
    cache: dict[str, np.dtype[Any]] = {}

    def type_of(tensor: str) -> np.dtype[Any] | None:
        if tensor in known:
            return known[tensor]
        if not cache:
            cache.update(_inferred(model))
        return cache.get(tensor)

    result: list[Edit] = []
    wide = widened(graph, edits, type_of)
    for edit in edits:
        lifted = isinstance(edit, SetInput) and edit.node in wide
        result.append(edit if lifted else _fit(edit, graph, type_of))
        if isinstance(edit, InsertNode):
            known.update(_retyped(edit, graph, type_of))
    return tuple(result)


def _retyped(edit: InsertNode, graph: Graph, type_of: TypeOf) -> dict[str, np.dtype[Any]]:
    """What an inserted node makes, and its readers make of that: a Cast changes the dtype of both."""
    code = edit.node.attrs.get("to")
    dtype = type_of(edit.after)
    if edit.node.op == "Cast" and isinstance(code, int):
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    if dtype is None:
        return {}
    found = dict.fromkeys(edit.node.outputs, dtype)
    if is_float(dtype):
        readers = edit.consumers or [(n.key, slot) for n, slot in graph.consumers.get(edit.after, ())]
        made = (key for key, _ in readers if (old := type_of(key)) is not None and is_float(old))
        found |= dict.fromkeys(made, dtype)
    return found


def _inferred(model: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    types = onnx_shapes.inferred(model)
    codes = {k: t.tensor_type.elem_type for k, t in types.items() if t.HasField("tensor_type")}
    return {k: np.dtype(helper.tensor_dtype_to_np_dtype(c)) for k, c in codes.items() if c}


def _fit(edit: Edit, graph: Graph, type_of: TypeOf) -> Edit:
    if isinstance(edit, SetInput) and edit.value is not None:
        node = graph.producers.get(edit.node)
        old = node.input(edit.slot) if node else ""
        first = node.input(0) if node and node.op not in _MIXED else ""
        dtype = type_of(old) if old else type_of(first)
        made = type_of(edit.node)  # by edits before, it may compute in another precision than its old constant has
        retyped = made == edit.value.dtype and made != dtype and node is not None and node.op not in _MIXED
        return replace(edit, value=edit.value if retyped else _cast(edit.value, dtype))
    if isinstance(edit, InsertNode):
        return replace(edit, constants=_cast_all(edit.constants, type_of(edit.after)))
    if isinstance(edit, SetOperator):
        node = graph.producers.get(edit.node)
        return replace(edit, constants=_cast_all(edit.constants, type_of(node.input(0)) if node else None))
    if isinstance(edit, ReplaceSegment):
        tensors = _cast_all(edit.fragment.initializers, type_of(edit.output))
        return replace(edit, fragment=replace(edit.fragment, initializers=tensors))
    return edit


def _cast_all(constants: Mapping[str, Array], dtype: np.dtype[Any] | None) -> dict[str, Array]:
    return {k: _cast(v, dtype) for k, v in constants.items()}


def _cast(value: Array, dtype: np.dtype[Any] | None) -> Array:
    """The value in another float dtype; anything but a change between floats is left alone."""
    if dtype is None or value.dtype == dtype or not (is_float(value.dtype) and is_float(dtype)):
        return value
    return value.astype(dtype)
