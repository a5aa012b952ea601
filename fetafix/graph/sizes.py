"""Whether a change of a map's size stays inside a model: chains of operators that take any size, and where they end."""

from __future__ import annotations

from collections.abc import Iterator

from fetafix.graph.attributes import canonical
from fetafix.graph.kernels import SPATIAL, extent
from fetafix.ir import Graph, Node

_ENDS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_POINTWISE = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
    "Softplus", "Gelu", "Mish", "BatchNormalization", "LRN", "Identity",
})
_JOINS = frozenset({"Add", "Mul", "Sub", "Max", "Concat"})


def vanishes(graph: Graph, tensor: str) -> bool:
    """Whether another height and width of a tensor never reach an output of the graph: global pooling takes it up.

    Branches that join must all have the changed size, beside constants and vectors that broadcast.
    """
    changed = {tensor}
    for node in graph.nodes:
        if not any(t in changed for t in node.inputs) or node.op in _ENDS or _averages(node, graph):
            continue
        if node.op in _JOINS:
            others = [t for t in node.inputs if t not in changed and not graph.fixed(t)]
            if any(_map(graph, t) for t in others):
                return False
            if node.op == "Concat" and canonical(node, graph).get("axis") != 1:
                return False
        elif node.op not in _POINTWISE and node.op not in SPATIAL:
            return False
        changed.update(o for o in node.outputs if o)
    return not changed & set(graph.output_names)


def _map(graph: Graph, tensor: str) -> bool:
    """Whether a tensor has a height and width of its own."""
    dims = graph.shapes.get(tensor, ())
    return len(dims) > 2 and any(d != 1 for d in dims[2:])


def _averages(node: Node, graph: Graph) -> bool:
    """Whether a reduction goes over all spatial axes."""
    rank = len(graph.shapes.get(node.input(0), ()))
    return node.op in ("ReduceMean", "ReduceMax") and set(range(2, rank)) <= set(canonical(node, graph).get("axes", ()))


def followers(graph: Graph, node: Node) -> Iterator[Node]:
    """Kernel operators behind a node along a chain without branches, pointwise operators between."""
    while True:
        readers = graph.consumers.get(node.key, ())
        if len(readers) != 1 or readers[0][1] != 0 or node.key in graph.output_names:
            return
        node = readers[0][0]
        if node.op in SPATIAL and not node.domain:
            yield node
        elif node.op not in _POINTWISE:
            return


def explicit(node: Node, graph: Graph) -> bool:
    """Whether a kernel operator's output size follows from its pads and strides, rounded down."""
    values = canonical(node, graph)
    return (node.op != "ConvTranspose" and "pads" in values and "auto_pad" not in node.attrs
            and not values.get("ceil_mode"))


def made_size(node: Node, graph: Graph, sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial output size of an `explicit` kernel operator for another input size and other strides."""
    v, n = canonical(node, graph), len(strides)
    return tuple(extent(sizes[i], v["kernel_shape"][i], strides[i], v["dilations"][i], v["pads"][i] + v["pads"][n + i])
                 for i in range(n))
