"""Operators that an older operator set lacks, spelled out in those that it has: by their definitions in ONNX.

    Gelu                 x · Φ(x) = x/2 · (1 + erf(x/√2)), or by tanh (√(2/π) · (x + 0.044715 x³))
    LayerNormalization   (x − μ) / √(σ² + ε) · γ + β, μ and σ² over the axes from `axis` on
    HardSwish            x · max(0, min(1, x/6 + ½))
    Mish                 x · tanh(ln(1 + eˣ))

Constants are float32; whoever uses the result has to measure it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from onnx import defs

from fetafix.graph.writer import Writer
from fetafix.ir import Graph, Node

Rule = Callable[[Writer, Node, int | None], bool]


def expanded(graph: Graph, version: int) -> Graph:
    """A fragment whose nodes that operator set `version` lacks are spelled out where that is known, as it spells them.

    LayerNormalization is as old as 17, so that ReduceMean's axes are an attribute wherever it has to be spelled out.
    `graph.shapes` are consulted for ranks.
    """
    nodes: list[Node] = []
    tensors = dict(graph.initializers)
    for node in graph.nodes:
        written = None if node.domain or _known(node.op, version) else _written(node, graph)
        if written is None:
            nodes.append(node)
            continue
        *rest, last = written.nodes
        nodes += [*rest, replace(last, outputs=(node.key,), name=node.name)]
        tensors |= written.constants
    return replace(graph, nodes=tuple(nodes), initializers=tensors) if len(nodes) > len(graph.nodes) else graph


def _known(op: str, version: int) -> bool:
    try:
        defs.get_schema(op, version)
    except defs.SchemaError:
        return False
    return True


def _written(node: Node, graph: Graph) -> Writer | None:
    rule = _RULES.get(node.op)
    if rule is None or any(node.outputs[1:]):
        return None
    dims = graph.shapes.get(node.input(0)) or graph.shapes.get(node.key)
    writer = Writer(graph, node)
    return writer if rule(writer, node, None if dims is None else len(dims)) else None


def _gelu(w: Writer, node: Node, rank: int | None) -> bool:
    x = node.inputs[0]
    if node.attrs.get("approximate", "none") == "tanh":
        cube = w.op("Mul", w.op("Mul", w.op("Mul", x, x), x), w.number(0.044715))
        inner = w.op("Tanh", w.op("Mul", w.op("Add", x, cube), w.number(math.sqrt(2.0 / math.pi))))
    else:
        inner = w.op("Erf", w.op("Div", x, w.number(math.sqrt(2.0))))
    w.op("Mul", w.op("Mul", x, w.op("Add", inner, w.number(1.0))), w.number(0.5))
    return True


def _layer_normalization(w: Writer, node: Node, rank: int | None) -> bool:
    axis = int(node.attrs.get("axis", -1))  # type: ignore[arg-type]
    if axis != -1 and rank is None:
        return False
    axes = (-1,) if axis == -1 or rank is None else tuple(range(axis % rank, rank))
    x, epsilon = node.inputs[0], float(node.attrs.get("epsilon", 1e-5))  # type: ignore[arg-type]
    centred = w.op("Sub", x, w.op("ReduceMean", x, axes=axes))
    variance = w.op("ReduceMean", w.op("Mul", centred, centred), axes=axes)
    scaled = w.op("Mul", w.op("Div", centred, w.op("Sqrt", w.op("Add", variance, w.number(epsilon)))), node.inputs[1])
    if node.input(2):
        w.op("Add", scaled, node.input(2))
    return True


def _hard_swish(w: Writer, node: Node, rank: int | None) -> bool:
    w.op("Mul", node.inputs[0], w.op("HardSigmoid", node.inputs[0], alpha=1.0 / 6.0, beta=0.5))
    return True


def _mish(w: Writer, node: Node, rank: int | None) -> bool:
    w.op("Mul", node.inputs[0], w.op("Tanh", w.op("Softplus", node.inputs[0])))
    return True


_RULES: Mapping[str, Rule] = {
    "Gelu": _gelu, "LayerNormalization": _layer_normalization, "HardSwish": _hard_swish, "Mish": _mish,
}
