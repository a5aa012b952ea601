"""A small network, the same network as another converter run would name and order it, and faults with their repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from fetafix.edit_data import ArrayStore
from fetafix.edits import Edit, RemoveNode, SetAttribute, SetInput, apply, prune
from fetafix.edits.inverse import inverse
from fetafix.graph.proto import model_from_graph
from fetafix.ir import Graph
from fetafix.patch.make import Facts, make
from fetafix.patch.record import Patch
from fetafix.plan import Entry, entry
from fetafix.report import ModelInfo
from tests.faults.support import Builder

Repairs = list[tuple[Entry, tuple[Edit, ...]]]


def network(seed: int = 0, width: int = 8) -> Graph:
    """Conv (dilated), BatchNorm, Relu; Conv, BatchNorm joined with it; Clip, AveragePool, Conv, pooling, Gemm."""
    b = Builder(seed)
    x = b.input((1, 3, 12, 12))
    c = b.op("Conv", x, b.weight(width, 3, 3, 3), b.normal(width), pads=[2, 2, 2, 2], dilations=[2, 2])
    r = b.op("Relu", b.batchnorm(c, width))
    c = b.op("Conv", r, b.weight(width, width, 3, 3), b.normal(width), pads=[1, 1, 1, 1])
    a = b.op("Add", b.batchnorm(c, width), r)
    a = b.op("Clip", a, np.array(0, np.float32), np.array(2, np.float32))
    p = b.op("AveragePool", a, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)
    c = b.op("Conv", p, b.weight(width, width, 3, 3), b.normal(width), pads=[1, 1, 1, 1])
    f = b.op("Flatten", b.op("GlobalAveragePool", c))
    return b.build(b.op("Gemm", f, b.weight(5, width), b.normal(5), transB=1))


def nodes(graph: Graph, op: str) -> list[str]:
    """Keys of the nodes with an operator, in order."""
    return [n.key for n in graph.nodes if n.op == op]


def faults(graph: Graph) -> list[list[Edit]]:
    """Four faults: a dilation, a flipped kernel, a lost activation, a pooling's border."""
    convs, (clip,), (pool,) = nodes(graph, "Conv"), nodes(graph, "Clip"), nodes(graph, "AveragePool")
    kernel = graph.constant(graph.node(convs[1]), 1)
    assert kernel is not None
    return [
        [SetAttribute(convs[0], "dilations", (1, 1)), SetAttribute(convs[0], "pads", (1, 1, 1, 1))],
        [SetInput(convs[1], 1, np.ascontiguousarray(kernel[:, :, ::-1, ::-1]))],
        [RemoveNode(clip)],
        [SetAttribute(pool, "count_include_pad", 1)],
    ]


def broken(graph: Graph) -> Graph:
    """The network with all four faults."""
    return prune(apply(graph, [e for group in faults(graph) for e in group]))


def repairs(graph: Graph) -> Repairs:
    """What mends `broken(graph)`, entry by entry; the activation's comes first, so that others follow an insertion."""
    made: Repairs = []
    for group in faults(graph):
        edits = inverse(graph, group)
        graph = apply(graph, group)
        made.insert(0, (entry(f"fault-{4 - len(made)}", edits, ArrayStore()), edits))
    return made


def renamed(graph: Graph, seed: int = 5) -> Graph:
    """The same graph with other names for everything, in another topological order."""
    rng = np.random.default_rng(seed)
    names: dict[str, str] = {}

    def new(tensor: str) -> str:
        return tensor and names.setdefault(tensor, f"{'abcxyz'[rng.integers(6)]}{len(names)}")

    left = [
        replace(n, inputs=tuple(map(new, n.inputs)), outputs=tuple(map(new, n.outputs)), name=f"op{i}")
        for i, n in enumerate(graph.nodes)
    ]
    ready = {new(t) for t in (*graph.input_names, *graph.initializers)}
    order = []
    while left:
        able = [n for n in left if set(n.reads) <= ready]
        node = able[rng.integers(len(able))]
        left.remove(node)
        order.append(node)
        ready.update(node.outputs)
    tensors = {new(k): v for k, v in graph.initializers.items()}
    values = [tuple(replace(v, name=new(v.name)) for v in side) for side in (graph.inputs, graph.outputs)]
    return Graph(tuple(order), tensors, values[0], values[1], graph.opset)


def patched(graph: Graph | None = None, made: Repairs | None = None) -> tuple[Patch, ArrayStore]:
    """The patch that mends `broken(graph)`."""
    graph = network() if graph is None else graph
    info = ModelInfo(path="/models/tgt.onnx", format="onnx", sha256="1" * 64)
    return make(broken(graph), repairs(graph) if made is None else made, Facts(info, info, seed=3, approved_by="Ada"))


def saved(graph: Graph, path: Path) -> Path:
    """The graph as an ONNX file."""
    model = model_from_graph(graph)
    model.ir_version = 10
    onnx.save(model, path)
    return path


def edits_of(made: Repairs) -> Sequence[Edit]:
    """All edits, in order."""
    return [e for _, group in made for e in group]
