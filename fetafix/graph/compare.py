"""Canonical attributes compared and set: what two nodes differ in, and the edits that make one do what the other does.

`differences` compares attribute by attribute, axes through the layout permutation; `assign` is the way back: edits that
give a node canonical values in the form its own operator version wants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit, RemoveNode, SetAttribute, SetInput
from fetafix.graph.attributes import PER_AXIS, absorbed, canonical, front_pad, shape, version
from fetafix.graph.kernels import SPATIAL, extent
from fetafix.ir import Graph, Node

_AS_INPUT = {"Squeeze": 13, "Unsqueeze": 13, "ReduceSum": 13}
_REDUCE_AS_INPUT = 18


def same(a: Any, b: Any) -> bool:
    """Whether two attribute values mean the same; floats up to float32 rounding."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(np.asarray(a), np.asarray(b)))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and (a == b or math.isclose(a, b, rel_tol=1e-6))
    return bool(a == b)


def through(name: str, value: Any, op: str, perm: Sequence[int]) -> Any:
    """A source attribute value in the layout of a target that holds source.transpose(perm)."""
    rank = len(perm)
    if name == "axis" and isinstance(value, int) and op in PER_AXIS and 0 <= value < rank:
        return list(perm).index(value)
    if name == "axes" and op != "Unsqueeze" and all(0 <= a < rank for a in value):
        return tuple(sorted(list(perm).index(a) for a in value))
    if name == "pads" and op == "Pad" and len(value) == 2 * rank:
        return (*(value[p] for p in perm), *(value[rank + p] for p in perm))
    if name == "scales" and len(value) == rank:
        return tuple(value[p] for p in perm)
    return value


def differences(
    target: Node, source: Node, target_graph: Graph, source_graph: Graph, perm: Sequence[int] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Canonical attributes in which two nodes differ: name → (target's value, source's value in the target's layout).

    `perm` says that the target's tensor is the source's, transposed by it. What only one side has pairs with None.
    """
    theirs = canonical(source, source_graph)
    if perm is not None:
        theirs = {k: through(k, v, source.op, perm) for k, v in theirs.items()}
    ours = canonical(target, target_graph)
    names = dict.fromkeys((*ours, *theirs))
    return {n: (ours.get(n), theirs.get(n)) for n in names if not same(ours.get(n), theirs.get(n))}


def assign(node: Node, graph: Graph, values: Mapping[str, Any]) -> list[Edit]:
    """Edits that give a node canonical attribute values, as attributes or inputs, whichever its version wants.

    Returns [] where the node's operator version cannot express a value.
    """
    edits: list[Edit] = []
    for name, value in values.items():
        made = _assign(node, graph, name, value)
        if made is None:
            return []
        edits.extend(made)
    return edits


def _assign(node: Node, graph: Graph, name: str, value: Any) -> list[Edit] | None:
    opset, key = version(graph, node), node.key
    if node.op == "Relu" or name in ("flattened", "shape"):
        return None
    if value is None and (name == "axes" or node.op == "Pad"):  # twins of one family, of which only one has axes
        return None
    if node.op == "Clip" and name in ("min", "max"):
        return _assign_bound(node, graph, name, value)
    if node.op == "Pad" and name in ("pads", "value") and opset >= 11:
        fill = graph.constant(node, 2)
        dtype = np.float32 if fill is None else fill.dtype
        if name == "value":
            return [SetInput(key, 2, np.asarray(value, dtype))]
        drop: list[Edit] = [SetInput(key, 3, None)] if node.input(3) else []
        return [SetInput(key, 1, np.asarray(value, np.int64)), *drop]
    if name == "axes" and opset >= _AS_INPUT.get(node.op, _REDUCE_AS_INPUT):
        return [SetInput(key, 1, np.asarray(value, np.int64))]
    if node.op in ("Resize", "Upsample"):
        if node.op == "Upsample" or opset < 11 or name == "scales":
            return None
        return [SetAttribute(key, name, value)]
    if node.op == "GridSample" and name == "mode" and opset < 20:
        return [SetAttribute(key, name, {"linear": "bilinear", "cubic": "bicubic"}.get(value, value))]
    if name == "pads" and node.op in SPATIAL:
        return _assign_pads(node, graph, value)
    return [SetAttribute(key, name, value)]


def _assign_pads(node: Node, graph: Graph, pads: tuple[int, ...] | None) -> list[Edit] | None:
    if pads is None:
        return None
    extra = absorbed(node, graph) or (0,) * len(pads)
    own = tuple(p - e for p, e in zip(pads, extra, strict=True))
    edits: list[Edit] = [SetAttribute(node.key, "auto_pad", None)] if "auto_pad" in node.attrs else []
    if min(own) >= 0:
        return [*edits, SetAttribute(node.key, "pads", own)]
    front = front_pad(node, graph)
    if front is None or len(graph.consumers[front.node.key]) > 1:
        return None
    return [RemoveNode(front.node.key), *edits, SetAttribute(node.key, "pads", pads)]


def _assign_bound(node: Node, graph: Graph, name: str, value: float | None) -> list[Edit]:
    unbounded = value is None or math.isinf(value)
    if version(graph, node) < 11:
        return [SetAttribute(node.key, name, None if unbounded else value)]
    slot = 1 if name == "min" else 2
    if unbounded:
        return [SetInput(node.key, slot, None)]
    kept = graph.constant(node, 3 - slot)
    return [SetInput(node.key, slot, np.asarray(value, np.float32 if kept is None else kept.dtype))]


def keeps_shape(node: Node, graph: Graph, **changed: Any) -> bool:
    """Whether a convolution or pooling makes the same output size with some canonical values changed."""
    old, dims = canonical(node, graph), shape(graph, node.input(0))
    new = {**old, **changed}
    if dims is None or "pads" not in old or node.op == "ConvTranspose" or old.get("ceil_mode"):
        return False
    n = len(old["kernel_shape"])
    front = absorbed(node, graph) or (0,) * (2 * n)
    bare = [d - a - b for d, a, b in zip(dims[2:], front[:n], front[n:], strict=True)]
    sizes = [
        [extent(bare[i], v["kernel_shape"][i], v["strides"][i], v["dilations"][i], v["pads"][i] + v["pads"][n + i])
         for i in range(n)] for v in (old, new)
    ]
    return sizes[0] == sizes[1]
