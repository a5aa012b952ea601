"""What ONNX's schemas and a graph's shapes say of a node: default attributes, the version it is written in, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import onnx

from fetafix.graph.kernels import Values
from fetafix.ir import Graph, Node


@lru_cache(maxsize=512)
def defaults(op: str, domain: str, version: int) -> Mapping[str, Any]:
    """The default attribute values of an operator in an opset; {} for an operator ONNX does not know."""
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return {}
    found: Values = {}
    for name, attr in schema.attributes.items():
        if attr.default_value.type:
            value = onnx.helper.get_attribute_value(attr.default_value)
            value = tuple(value) if isinstance(value, list) else value
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def version(graph: Graph, node: Node) -> int:
    """The opset version a node is written in."""
    return graph.opset.get(node.domain, graph.opset.get("", 1))


def shape(graph: Graph, tensor: str) -> tuple[int, ...] | None:
    """The concrete shape of a tensor, or None where a dimension is unknown."""
    known = graph.value_of(tensor)
    if known is not None:
        return known.shape
    dims = graph.shapes.get(tensor)
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    return tuple(int(d) for d in dims if isinstance(d, int))
