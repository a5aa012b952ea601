"""Canonical attributes of operators that resample: Resize and Upsample of all operator sets, GridSample."""

from __future__ import annotations

from fetafix.graph.kernels import Values
from fetafix.graph.schema import shape, version
from fetafix.ir import Graph, Node


def resize(node: Node, graph: Graph, values: Values) -> Values:
    """What a Resize or Upsample does: mode, rule, rounding, kernel, and `scales`, as given or by the sizes."""
    opset = version(graph, node)
    found: Values = {"mode": values.get("mode", "nearest")}
    found["mode"] = {"bilinear": "linear"}.get(found["mode"], found["mode"])
    source, out = shape(graph, node.input(0)), shape(graph, node.key)
    if node.op == "Upsample" or opset < 11:
        found["coordinate_transformation_mode"], found["nearest_mode"] = "asymmetric", "floor"
    else:
        keys = ("coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias")
        found |= {k: values[k] for k in keys if k in values}
    if found["mode"] != "nearest":
        found.pop("nearest_mode", None)
    if found["mode"] != "cubic":
        found.pop("cubic_coeff_a", None)
    if found["mode"] == "nearest":
        found.pop("exclude_outside", None)
    if source is not None and out is not None:
        resized = [o for i, o in zip(source, out, strict=True) if i != o]
        if found["coordinate_transformation_mode"] == "pytorch_half_pixel" and 1 not in resized:
            found["coordinate_transformation_mode"] = "half_pixel"
        if all(o >= i for i, o in zip(source, out, strict=True)):
            found.pop("antialias", None)
        found["scales"] = _scales(node, graph, values) or tuple(o / i for i, o in zip(source, out, strict=True))
    return found


def _scales(node: Node, graph: Graph, values: Values) -> tuple[float, ...] | None:
    """The scales as given (they may be fractional where output sizes are rounded), or None where sizes are given."""
    if "scales" in values:
        return tuple(values["scales"])
    slot = 1 if node.op == "Upsample" or version(graph, node) < 11 else 2
    given, dims = graph.constant(node, slot), shape(graph, node.input(0))
    if given is None or dims is None:
        return None
    spread, axes = [1.0] * len(dims), values.get("axes") or tuple(range(len(dims)))
    if given.size != len(axes):
        return None
    for axis, scale in zip(axes, given, strict=True):
        spread[axis] = float(scale)
    return tuple(spread)


def grid_sample(node: Node, graph: Graph, values: Values) -> Values:
    """What a GridSample does; its mode by the newer names."""
    mode = values.get("mode", "linear")
    return values | {"mode": {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)}
