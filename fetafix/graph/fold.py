"""Linear chains folded into one effective weight and bias, and parameters spread back onto a chain of another form.

A chain is a linear operator (Conv, ConvTranspose, Gemm, MatMul) with the per-channel affine nodes behind it, or such
nodes alone: BatchNormalization, Add, Sub, Mul, Div with a constant per channel. With y = W∗x + b and an affine node
z = s·y + t, the chain is W′ = s·W, b′ = s·b + t; a BatchNormalization has s = γ/√(σ²+ε), t = β − μ·s. All in float64.

So a Conv with a BatchNormalization compares with a folded Conv, a Gemm with MatMul + Add, and what the source computes
can be written into the form that the target happens to have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fetafix.graph.attributes import canonical
from fetafix.graph.weights import close, doubles
from fetafix.ir import Array, Graph, Node

LINEAR = {"Conv": "conv", "ConvTranspose": "convT", "Gemm": "matrix", "MatMul": "matrix"}
_AFFINE = {"BatchNormalization", "Add", "Sub", "Mul", "Div", "Identity", "Transpose"}
BN_SCALE, BN_BIAS, BN_MEAN, BN_VAR = 1, 2, 3, 4


@dataclass(frozen=True, eq=False, slots=True)
class Folded:
    """An effective weight and bias, float64.

    kind "conv": weight (O, I/g, k…); "convT": (I, O/g, k…); "matrix": (K, N), as x @ weight; "affine": a scale (C,).
    bias: per output channel.
    """

    kind: str
    weight: Array
    bias: Array
    group: int = 1

    def then(self, scale: Array, shift: Array) -> Folded:
        """Followed by a per-channel affine map."""
        return Folded(self.kind, self.weight * self.spread(scale), self.bias * scale + shift, self.group)

    def spread(self, vector: Array) -> Array:
        """A vector per output channel, shaped to multiply the weight."""
        rest = (1,) * (self.weight.ndim - 2)
        if self.kind == "conv":
            return vector.reshape(-1, 1, *rest)
        if self.kind == "convT":
            inputs, outputs = self.weight.shape[0], self.weight.shape[1]
            spread = np.repeat(vector.reshape(self.group, 1, outputs), inputs // self.group, axis=1)
            return spread.reshape(inputs, outputs, *rest)
        return vector

    def equals(self, other: Folded) -> bool:
        """Whether both are the same map, up to float noise."""
        return close(self.bias, other.bias) and close(self.weight, other.weight)

    def like(self, other: Folded) -> Folded | None:
        """The same function with the weight in another's shape (flat 2-D kernels are 1-D); None if it does not fit."""
        if self.kind != other.kind or self.group != other.group or self.bias.shape != other.bias.shape:
            return None
        ours, theirs = self.weight.shape, other.weight.shape
        flat = [(*s[:2], *(d for d in s[2:] if d > 1)) for s in (ours, theirs)]
        if ours != theirs and flat[0] != flat[1]:
            return None
        return Folded(self.kind, self.weight.reshape(theirs), self.bias, self.group)


@dataclass(frozen=True, eq=False)
class Chain:
    """Nodes of a graph in a row; the first is the linear operator, where there is one."""

    nodes: tuple[Node, ...]
    graph: Graph

    @property
    def head(self) -> Node | None:
        """The linear operator, or None where the chain is affine only."""
        return self.nodes[0] if self.nodes[0].op in LINEAR else None

    @property
    def key(self) -> str:
        """The tensor that the chain makes."""
        return self.nodes[-1].key

    @cached_property
    def folded(self) -> Folded | None:
        """The chain as one linear map; None where a part of it is not per channel."""
        return fold(self.nodes, self.graph)

    @cached_property
    def tail(self) -> tuple[Array, Array] | None:
        """Scale and shift, per channel, of everything behind the first node."""
        if self.folded is None:
            return None
        one = Folded("affine", np.ones_like(self.folded.bias), np.zeros_like(self.folded.bias))
        after = follow(one, self.nodes, self.graph)
        return None if after is None else (after.weight, after.bias)


def chains(graph: Graph) -> list[Chain]:
    """All maximal linear chains of a graph, in its order; no node is in two."""
    used: set[str] = set()
    found = []
    for heads in (True, False):
        for node in graph.nodes:
            fits = node.op in LINEAR if heads else node.op in _AFFINE - {"Identity", "Transpose"}
            if not fits or node.key in used or fold((node,), graph) is None:
                continue
            nodes = _extend([node], graph, used)
            used.update(n.key for n in nodes)
            found.append(Chain(tuple(nodes), graph))
    order = {n.key: i for i, n in enumerate(graph.nodes)}
    return sorted(found, key=lambda c: order[c.nodes[0].key])


def _extend(nodes: list[Node], graph: Graph, used: set[str]) -> list[Node]:
    length = 1
    while True:
        readers = graph.consumers.get(nodes[-1].key, ())
        if len(readers) != 1 or nodes[-1].key in graph.output_names or readers[0][1] < 0:
            break
        node = readers[0][0]
        if node.op not in _AFFINE or node.key in used or fold((*nodes, node), graph) is None:
            break
        nodes = [*nodes, node]
        if node.op not in ("Transpose", "Identity"):
            length = len(nodes)
    return nodes[:length]


def fold(nodes: Sequence[Node], graph: Graph) -> Folded | None:
    """Fold nodes in a row into one linear map; None where they are none.

    A chain without a linear operator needs its tensors' ranks in `graph.shapes` (a BatchNormalization does not).
    """
    first = nodes[0]
    start = _linear(first, graph) if first.op in LINEAR else _alone(first, graph)
    return None if start is None else follow(start, nodes, graph)


def _linear(node: Node, graph: Graph) -> Folded | None:
    weight = graph.constant(node, 1)
    if weight is None or weight.dtype.kind != "f" or node.domain:
        return None
    w, values = doubles(weight), canonical(node, graph)
    group = int(values.get("group", 1))
    if LINEAR[node.op] == "matrix":
        if w.ndim != 2:
            return None
        w = (w.T if values.get("transB") else w) * float(values.get("alpha", 1.0))
    channels: int = {"Conv": w.shape[0], "ConvTranspose": w.shape[1] * group}.get(node.op) or w.shape[-1]
    bias = graph.constant(node, 2)
    if bias is None:
        return None if node.input(2) else Folded(LINEAR[node.op], w, np.zeros(channels), group)
    b = _per_channel(bias, 1, 2, channels) if node.op == "Gemm" else bias.astype(np.float64)
    if b is None or b.shape != (channels,):
        return None
    return Folded(LINEAR[node.op], w, b * float(values.get("beta", 1.0)), group)


def _alone(node: Node, graph: Graph) -> Folded | None:
    """An affine node by itself."""
    rank = len(graph.shapes.get(node.key, ()))
    constants = [c for i in range(len(node.inputs)) if (c := graph.constant(node, i)) is not None]
    if node.op == "BatchNormalization":
        axis = 1
    elif rank < 2 or len(constants) != 1 or sum(d != 1 for d in constants[0].shape) != 1:
        return None
    else:
        axis = rank - constants[0].ndim + next(i for i, d in enumerate(constants[0].shape) if d != 1)
    if not constants:
        return None
    channels = max(constants[0].shape)
    made = affine(node, graph, axis, max(rank, 2), channels, 1 if graph.fixed(node.input(0)) else 0)
    return None if made is None else Folded("affine", *made)


def _axis(node: Node, graph: Graph) -> tuple[int, int]:
    """Channel axis and rank behind the first node of a chain."""
    dims = graph.shapes.get(node.key)
    if node.op in ("Conv", "ConvTranspose"):
        weight = graph.constant(node, 1)
        return 1, 4 if weight is None else weight.ndim
    rank = 2 if dims is None else len(dims)
    if LINEAR.get(node.op) == "matrix":
        return rank - 1, rank
    constant = next((c for i in range(len(node.inputs)) if (c := graph.constant(node, i)) is not None), np.ones(1))
    if node.op == "BatchNormalization":
        return 1, max(rank, 2)
    return rank - constant.ndim + next((i for i, d in enumerate(constant.shape) if d != 1), 0), rank


def follow(start: Folded, nodes: Sequence[Node], graph: Graph) -> Folded | None:
    """`start` (what the first node does) followed by the affine maps of all nodes but the first."""
    axis, rank = _axis(nodes[0], graph)
    folded, before = start, nodes[0].key
    for node in nodes[1:]:
        if node.op == "Transpose":
            perm = canonical(node, graph).get("perm", tuple(reversed(range(rank))))
            axis = list(perm).index(axis)
        else:
            made = affine(node, graph, axis, rank, folded.bias.size, node.inputs.index(before))
            if made is None:
                return None
            folded = folded.then(*made)
        before = node.key
    return folded


def affine(node: Node, graph: Graph, axis: int, rank: int, channels: int, slot: int) -> tuple[Array, Array] | None:
    """Scale and shift (channels,) of a node that acts per channel on the tensor in `slot`; None where it does not."""
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "Identity":
        return one, zero
    if node.op == "BatchNormalization":
        tensors = [graph.constant(node, s) for s in (BN_SCALE, BN_BIAS, BN_MEAN, BN_VAR)]
        values = canonical(node, graph)
        fits = all(t is not None and t.shape == (channels,) for t in tensors)
        if axis != 1 or slot or values.get("training_mode") or not fits:
            return None
        gamma, beta, mean, var = (np.asarray(t, np.float64) for t in tensors)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = gamma / np.sqrt(var + float(values["epsilon"]))
        return scale, beta - mean * scale
    constant = graph.constant(node, 1 - slot) if len(node.inputs) == 2 and slot in (0, 1) else None
    c = None if constant is None else _per_channel(constant, axis, rank, channels)
    if c is None or node.op not in ("Add", "Sub", "Mul", "Div") or (node.op == "Div" and slot):
        return None
    with np.errstate(divide="ignore"):
        table = {"Add": (one, c), "Sub": (-one, c) if slot else (one, -c), "Mul": (c, zero), "Div": (1.0 / c, zero)}
    return table[node.op]


def _per_channel(constant: Array, axis: int, rank: int, channels: int) -> Array | None:
    """A constant that broadcasts along one axis only, as a vector (channels,); None where it varies along others."""
    if constant.ndim > rank or constant.dtype.kind != "f":
        return None
    dims = (1,) * (rank - constant.ndim) + constant.shape
    if any(d != 1 for i, d in enumerate(dims) if i != axis) or dims[axis] not in (1, channels):
        return None
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))
