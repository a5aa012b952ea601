"""What lies at the end of a classifier: whether a tensor is its class scores, and what converters do to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
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


@dataclass(frozen=True, eq=False)
class Last:
    """The fully connected layer before an output: weight (classes, features), bias (classes,) or None."""

    node: Node
    weight: Array
    bias: Array | None
    turned: bool
    adder: Node | None = None

    def holding(self, weight: Array, bias: Array | None) -> list[Edit]:
        """Edits that give the layer other rows, in its own layout."""
        value = weight if self.turned else np.ascontiguousarray(weight.T)
        edits: list[Edit] = [ed.SetInput(self.node.key, 1, value.astype(self.weight.dtype))]
        if bias is not None and self.bias is not None:
            at, slot = (self.node, 2) if self.adder is None else (self.adder, 1)
            edits.append(ed.SetInput(at.key, slot, bias.astype(self.bias.dtype)))
        return edits


def last(graph: Graph, tensor: str) -> Last | None:
    """The fully connected layer before an output, through a Softmax or Sigmoid; None where there is none."""
    node = graph.producers.get(tensor)
    while node is not None and node.op in ("Softmax", "LogSoftmax", "Sigmoid"):
        node = graph.producers.get(node.input(0))
    adder = node if node is not None and node.op == "Add" and graph.fixed(node.input(1)) else None
    layer = graph.producers.get(adder.input(0)) if adder is not None else node
    weight = constant(graph, layer, 1) if layer is not None and layer.op in ("Gemm", "MatMul") else None
    if layer is None or weight is None or weight.ndim != 2 or (adder is not None and layer.op == "Gemm"):
        return None
    turned = layer.op == "Gemm" and bool(layer.attrs.get("transB"))
    bias = constant(graph, adder, 1) if adder is not None else constant(graph, layer, 2)
    rows = weight if turned else weight.T
    if bias is not None and bias.size != len(rows):
        return None
    return Last(layer, rows, None if bias is None else bias.reshape(-1), turned, adder)


def within(ours: Last | None, theirs: Last | None) -> int | None:
    """Where the rows of the layer with fewer classes begin among those of the other; None where they are others."""
    if ours is None or theirs is None or ours.weight.shape[1] != theirs.weight.shape[1]:
        return None
    few, many = sorted((ours.weight, theirs.weight), key=len)
    places = range(len(many) - len(few) + 1)
    return next((k for k in places if np.allclose(many[k:k + len(few)], few, rtol=1e-4, atol=1e-6)), None)


@dataclass(frozen=True)
class Counted:
    """Ways to give an output the source's number of classes; after: the error that is left."""

    ways: list[list[Edit]]
    after: float


def another_count(site: Any) -> Iterator[tuple[str, int, int, int, Counted]]:
    """Outputs of both models as a whole whose numbers of classes differ by one or two, with ways to put that right.

    (target layer, its classes, the source's, where the fewer begin among the more, ways with the error left).
    """
    if site.error < np.inf:  # outputs of other shapes cannot be compared
        return
    try:
        made = site.run_target(site.target, site.target_feeds)
    except FetafixError:
        return
    for tensor, name in site.outputs.items():
        mine, theirs = made[tensor].shape, site.expected[name].shape
        if len(mine) != 2 or len(theirs) != 2 or theirs[1] < 3:
            continue
        ours, wanted = last(site.target, tensor), last(site.source, name)
        count, more = mine[1], mine[1] - theirs[1]
        layer = tensor if ours is None else (ours.adder or ours.node).key
        at = within(ours, wanted)
        if 0 < more <= 2:
            for start in (at,) if at is not None else range(more + 1):
                order = np.arange(start, start + theirs[1])
                fewer = moved(site.target, tensor, order)
                ways: list[list[Edit]] = [fewer] if fewer else []
                ways.append(gathered(site.target, tensor, order))
                yield layer, count, theirs[1], start, Counted(ways, _best(site, ways, at))
        elif -2 <= more < 0 and at is not None and ours is not None and wanted is not None:
            ways = [ours.holding(wanted.weight, wanted.bias)]
            yield layer, count, theirs[1], at, Counted(ways, _best(site, ways, at))


def _best(site: Any, ways: list[list[Edit]], at: int | None) -> float:
    """The smallest error that a way leaves; 0 where other faults keep the outputs apart, but the rows tell."""
    error = min(site.trial(way) for way in ways)
    return 0.0 if at is not None and np.isfinite(error) else float(error)
