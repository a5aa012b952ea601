"""Attention in its forms: Softmax(scale · Q·Kᵀ + mask) · V spelled out, or one operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, InsertNode, SetAttribute, SetInput
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Graph, Node

OPERATORS = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
_PASSING = frozenset({"Cast", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Expand"})
_LONGEST = 10


@dataclass(frozen=True, slots=True)
class Attention:
    """node: the Softmax, or the operator. product: the MatMul Q·Kᵀ. factors: (Mul or Div, slot of its number).

    mask: the Add or Where that masks, with the slot that the scores come in by. width: of one head, 0 if unknown.
    """

    node: Node
    product: Node | None
    factors: tuple[tuple[Node, int], ...]
    mask: tuple[Node, int] | None
    width: int

    def scale(self, graph: Graph) -> float:
        """What Q·Kᵀ is multiplied by altogether."""
        if self.product is None:
            given = self.node.attrs.get("scale")
            usual = self.width**-0.5 if self.width else 1.0
            return float(given) if isinstance(given, float) and given else usual
        total = 1.0
        for node, slot in self.factors:
            number = float(np.asarray(graph.constant(node, slot)).reshape(-1)[0])
            total *= number if node.op == "Mul" else 1 / number
        return total

    def rescaled(self, graph: Graph, scale: float) -> Edit | None:
        """The edit that gives it another scale; None where that cannot be said."""
        if self.product is None:
            return SetAttribute(self.node.key, "scale", float(scale))
        now = self.scale(graph)
        if not self.factors:
            label, out = like(graph, "Mul", self.product)
            name = tensor_like(graph, "scale", self.product)
            made = Node("Mul", (self.product.key, name), (out,), {}, label)
            return InsertNode(self.product.key, made, {name: np.array(scale, np.float32)})
        node, slot = self.factors[-1]
        old = np.asarray(graph.constant(node, slot))
        change = scale / now if node.op == "Mul" else now / scale
        return SetInput(node.key, slot, np.asarray(old * change, old.dtype)) if now else None

    @property
    def scores(self) -> str:
        """The tensor that a mask is put on: what the Softmax reads, before any mask."""
        if self.mask is not None:
            return self.mask[0].input(self.mask[1])
        return self.node.input(0)


def attentions(graph: Graph) -> list[Attention]:
    """All attentions of a graph that are recognised, in order."""
    return [a for n in graph.nodes if (a := _attention(graph, n)) is not None]


def _attention(graph: Graph, node: Node) -> Attention | None:
    if node.op in OPERATORS:
        return Attention(node, None, (), None, _head(graph, node))
    if node.op != "Softmax":
        return None
    factors: list[tuple[Node, int]] = []
    mask: tuple[Node, int] | None = None
    tensor = node.input(0)
    for _ in range(_LONGEST):
        maker = graph.producers.get(tensor)
        if maker is None:
            return None
        if maker.op == "MatMul":
            return _with_sides(graph, Attention(node, maker, tuple(factors), mask, _width(graph, maker)))
        slot = _number(graph, maker)
        if slot is not None:
            factors.append((maker, slot))
            tensor = maker.input(1 - slot)
        elif maker.op in ("Add", "Where"):
            way = next((i for i, t in enumerate(maker.inputs) if _leads_to_product(graph, t)), None)
            if way is None:
                return None
            mask, tensor = mask or (maker, way), maker.input(way)
        elif maker.op in _PASSING:
            tensor = maker.input(0)
        else:
            return None
    return None


def _with_sides(graph: Graph, found: Attention) -> Attention | None:
    """With the factors that queries and keys are multiplied by; None where a side is constant: no attention."""
    product = found.product
    if product is None or any(graph.fixed(t) for t in product.inputs):
        return None
    sides = [f for t in product.inputs for f in _side(graph, t)]
    return Attention(found.node, product, (*sides, *found.factors), found.mask, found.width)


def _side(graph: Graph, tensor: str) -> Iterator[tuple[Node, int]]:
    for _ in range(_LONGEST):
        maker = graph.producers.get(tensor)
        if maker is None:
            return
        slot = _number(graph, maker)
        if slot is not None:
            yield maker, slot
            tensor = maker.input(1 - slot)
        elif maker.op in _PASSING:
            tensor = maker.input(0)
        else:
            return


def _number(graph: Graph, node: Node) -> int | None:
    """The slot of a Mul's or Div's factor where that is one positive number."""
    for slot in (1, 0) if node.op == "Mul" else (1,) if node.op == "Div" else ():
        value = graph.constant(node, slot)
        if value is not None and value.size == 1 and value.dtype.kind == "f" and float(value.reshape(-1)[0]) > 0:
            return slot
    return None


def _leads_to_product(graph: Graph, tensor: str) -> bool:
    for _ in range(_LONGEST):
        maker = graph.producers.get(tensor)
        if maker is None:
            return False
        if maker.op == "MatMul":
            return True
        slot = _number(graph, maker)
        if slot is None and maker.op not in _PASSING and maker.op not in ("Add", "Where"):
            return False
        if maker.op in ("Add", "Where"):
            return any(_leads_to_product(graph, t) for t in maker.inputs if t)
        tensor = maker.input(0 if slot is None else 1 - slot)
    return False


def _width(graph: Graph, product: Node) -> int:
    dims = graph.shapes.get(product.input(0), ())
    return int(dims[-1]) if dims and isinstance(dims[-1], int) else 0


def _head(graph: Graph, node: Node) -> int:
    dims = graph.shapes.get(node.input(0), ())
    heads = node.attrs.get("q_num_heads", node.attrs.get("num_heads", 1))
    last = dims[-1] if dims and isinstance(dims[-1], int) else 0
    return int(last) // (int(heads) if len(dims) == 3 and isinstance(heads, int) else 1)
