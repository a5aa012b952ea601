"""Fused operators of optimised graphs (ONNX Runtime's domain com.microsoft): what they are made of, how they are set.

FusedConv and FusedGemm apply an activation to their result, FusedMatMul multiplies it by alpha and may transpose its
operands, SkipLayerNormalization normalises the sum of two tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from fetafix.edits import ReplaceSegment
from fetafix.edits.values import SetAttribute
from fetafix.graph.attributes import canonical
from fetafix.graph.fold import fold
from fetafix.ir import Array, Attribute, Graph, Node, Value

DOMAIN = "com.microsoft"
ACTIVATED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": ("alpha",), "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
}
_GEMM_PARAMETERS = ("activation_alpha", "activation_beta", "activation_gamma")


@dataclass(frozen=True)
class Activation:
    """An activation as fused operators name it, with its parameters in their order."""

    name: str
    parameters: tuple[float, ...] = ()

    def attributes(self, op: str) -> dict[str, Attribute]:
        """How a fused operator has it."""
        made: dict[str, Attribute] = {"activation": self.name}
        if op == "FusedGemm":
            return made | dict(zip(_GEMM_PARAMETERS, self.parameters, strict=False))
        return made | ({"activation_params": self.parameters} if self.parameters else {})


def activation(node: Node, graph: Graph) -> Activation | None:
    """A node as an activation that can be fused; None where it is none."""
    if node.op not in _PARAMETERS or node.domain:
        return None
    if node.op in ("Clip", "Relu"):
        values = canonical(node, graph)
        low, high = values.get("min"), values.get("max")
        if isinstance(low, float) and isinstance(high, float) and high < 1e30:
            return Activation("Clip", (low, high))
        return Activation("Relu") if node.op == "Relu" else None
    values = canonical(node, graph)
    return Activation(node.op, tuple(float(values[p]) for p in _PARAMETERS[node.op]))


def fused(graph: Graph) -> list[Node]:
    """The fused operators of a graph."""
    return [n for n in graph.nodes if n.domain == DOMAIN]


def settings(node: Node, source: Graph) -> Iterator[dict[str, Attribute | None]]:
    """The attributes that a fused operator would have if it were fused of nodes of the source."""
    if node.op in ACTIVATED:
        names = ("activation", "activation_params", *_GEMM_PARAMETERS)
        bare: dict[str, Attribute | None] = {k: None for k in names if k in node.attrs}
        for other in source.nodes:
            made = activation(other, source)
            if made is not None:
                yield {**bare, **made.attributes(node.op)}
        if bare:
            yield bare
    elif node.op == "FusedMatMul":
        for alpha, a, b in product(_scales(source), (0, 1), (0, 1)):
            yield {"alpha": alpha, "transA": a, "transB": b}
    elif node.op == "SkipLayerNormalization":
        for epsilon in _epsilons(source):
            yield {"epsilon": epsilon}


def _epsilons(source: Graph) -> list[float]:
    """What the source's normalisations add to a variance: their attribute, or the constant of an Add spelled out."""
    found = [float(canonical(n, source)["epsilon"]) for n in source.nodes if n.op == "LayerNormalization"]
    for node in source.nodes:
        for slot in range(2):
            value = source.constant(node, slot) if node.op == "Add" else None
            if value is not None and value.size == 1 and 0 < float(value.flat[0]) < 1:
                found.append(float(value.flat[0]))
    return list(dict.fromkeys(found))


def _scales(source: Graph) -> list[float]:
    """Factors by which the source multiplies or divides, and 1."""
    found = [1.0]
    for node in source.nodes:
        for slot in range(len(node.inputs)):
            value = source.constant(node, slot) if node.op in ("Mul", "Div") else None
            if value is not None and value.size == 1 and float(value.flat[0]) != 0:
                factor = float(value.flat[0])
                found.append(1 / factor if node.op == "Div" else factor)
    return list(dict.fromkeys(found))


def changes(node: Node, wanted: Mapping[str, Attribute | None]) -> list[SetAttribute]:
    """Edits that give a node some attributes, where it has others."""
    return [SetAttribute(node.key, k, v) for k, v in wanted.items() if not _same(node.attrs.get(k), v)]


def _same(a: Attribute | None, b: Attribute | None) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), atol=1e-6)
    return bool(a == b)


@dataclass(frozen=True)
class Pair:
    """Two nodes that an optimiser fuses: `first` is read by `second` alone.

    inputs, tensors: what the fused operator reads, a weight and a bias with a BatchNormalization folded in among them.
    """

    first: Node
    second: Node
    inputs: tuple[str, ...]
    tensors: Mapping[str, Array]

    def fusing(self, graph: Graph, op: str, attrs: Mapping[str, Attribute]) -> ReplaceSegment:
        """The edit that puts one fused operator in the place of both."""
        out = self.second.key
        made = f"{out}_fused"
        node = Node(op, self.inputs, (made,), dict(attrs), self.first.name, DOMAIN)
        value = Value(made, np.dtype(np.float32), graph.shapes.get(out))
        fragment = Graph((node,), self.tensors, (), (value,), {DOMAIN: 1, **graph.opset})
        return ReplaceSegment(out, fragment)


def pairs(graph: Graph) -> list[Pair]:
    """Pairs of nodes in a row, a convolution with a BatchNormalization counting as one."""
    found = []
    for node in graph.nodes:
        after = _alone(graph, node)
        if after is None:
            continue
        found.append(Pair(node, after, node.inputs, {}))
        behind = _alone(graph, after) if node.op == "Conv" and after.op == "BatchNormalization" else None
        whole = fold((node, after), graph) if behind is not None else None
        if behind is not None and whole is not None:
            dtype = graph.initializers[node.input(1)].dtype if node.input(1) in graph.initializers else np.float32
            names = f"{node.key}_w", f"{node.key}_b"
            tensors = dict(zip(names, (whole.weight.astype(dtype), whole.bias.astype(dtype)), strict=True))
            found.append(Pair(node, behind, (node.inputs[0], *names), tensors))
    return found


def _alone(graph: Graph, node: Node) -> Node | None:
    """The one node that reads what a node makes; None where there are several, or it is an output."""
    readers = graph.consumers.get(node.key, ())
    alone = len(readers) == 1 and readers[0][1] >= 0 and not node.domain and node.key not in graph.output_names
    return readers[0][0] if alone else None
