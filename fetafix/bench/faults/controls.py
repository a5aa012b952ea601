"""Negative controls: what changes nothing. A sound tool finds nothing in them and repairs nothing.

Every ordered pair of a network's forms is one; the rewrites below are others, each a known NO-OP of conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.ir import Graph, Node

Rewrite = Callable[[Graph], list[Edit]]


def _nodes(graph: Graph, op: str, **attrs: object) -> list[Node]:
    return [n for n in graph.nodes if n.op == op and all(n.attrs.get(k) == v for k, v in attrs.items())]


def auto_pad(graph: Graph) -> list[Edit]:
    """SAME_UPPER for explicit pads: the same at stride 1 with an odd kernel."""
    found: list[Edit] = []
    for node in _nodes(graph, "Conv"):
        kernel = _sizes(graph, node.input(1))
        same = tuple(k // 2 for k in kernel) * 2
        plain = all(node.attrs.get(k, (1, 1)) == (1, 1) for k in ("strides", "dilations"))
        if plain and kernel and all(k % 2 for k in kernel) and max(kernel) > 1 and node.attrs.get("pads") == same:
            found += [ed.SetAttribute(node.key, "pads", None), ed.SetAttribute(node.key, "auto_pad", "SAME_UPPER")]
    return found


def turned_gemm(graph: Graph) -> list[Edit]:
    """Gemm's transB with the transposed weights."""
    found: list[Edit] = []
    for node in _nodes(graph, "Gemm"):
        weight = graph.initializers.get(node.input(1))
        if weight is not None and len(graph.consumers.get(node.input(1), ())) == 1:
            found += [ed.SetInput(node.key, 1, np.ascontiguousarray(weight.T)),
                      ed.SetAttribute(node.key, "transB", 0 if node.attrs.get("transB") else 1)]
    return found


def last_axis(graph: Graph) -> list[Edit]:
    """The last axis counted from the front."""
    return [ed.SetAttribute(n.key, "axis", len(graph.shapes[n.key]) - 1) for n in _nodes(graph, "Softmax", axis=-1)
            if n.key in graph.shapes]


def half_pixel(graph: Graph) -> list[Edit]:
    """pytorch_half_pixel for half_pixel: the same but for outputs of one pixel."""
    return [ed.SetAttribute(n.key, "coordinate_transformation_mode", "half_pixel" if mode != "half_pixel" else
                            "pytorch_half_pixel") for n in _nodes(graph, "Resize", mode="linear")
            if (mode := n.attrs.get("coordinate_transformation_mode", "half_pixel")) in
            ("half_pixel", "pytorch_half_pixel")]


def nearest(graph: Graph) -> list[Edit]:
    """The coordinates asymmetric with floor, half_pixel with round_prefer_floor: the same where the size doubles."""
    found: list[Edit] = []
    for n in _nodes(graph, "Resize", mode="nearest"):
        if _doubles(graph, n) and n.attrs.get("coordinate_transformation_mode") == "asymmetric":
            found += [ed.SetAttribute(n.key, "coordinate_transformation_mode", "half_pixel"),
                      ed.SetAttribute(n.key, "nearest_mode", "round_prefer_floor")]
    return found


def idle(graph: Graph) -> list[Edit]:
    """A Relu after a Relu."""
    found: list[Edit] = []
    for node in _nodes(graph, "Relu")[:3]:
        found.append(ed.InsertNode(node.key, Node("Relu", (node.key,), (f"{node.key}_again",))))
    return found


def flat(graph: Graph) -> list[Edit]:
    """Reshape to [0, -1] for Flatten."""
    found: list[Edit] = []
    for number, node in enumerate(_nodes(graph, "Flatten", axis=1)):
        name = f"flat_{number}"
        found.append(ed.SetOperator(node.key, "Reshape", {}, (node.input(0), name), "", {name: np.array([0, -1])}))
    return found


def _doubles(graph: Graph, node: Node) -> bool:
    before, after = _sizes(graph, node.input(0)), _sizes(graph, node.key)
    return bool(before) and after == tuple(2 * s for s in before)


def _sizes(graph: Graph, tensor: str) -> tuple[int, ...]:
    """Spatial sizes of a tensor; () where they are not known."""
    shape = tuple(graph.shapes.get(tensor) or ())[2:]
    return tuple(d for d in shape if isinstance(d, int)) if all(isinstance(d, int) for d in shape) else ()


REWRITES: Mapping[str, Rewrite] = {
    "SAME for symmetric pads": auto_pad, "transB with transposed weights": turned_gemm,
    "axis from the front": last_axis,
    "half_pixel as PyTorch's": half_pixel, "nearest at double size": nearest, "Relu twice": idle,
    "Reshape for Flatten": flat,
}


def edits(name: str, graph: Graph) -> Sequence[Edit]:
    """A rewrite's edits; none where the graph has no place for it."""
    return REWRITES[name](graph)
