"""What a node really does: attributes with defaults filled in, paddings explicit, inputs and attributes on one footing.

`canonical` gives a node's meaning as plain values, whatever operator version it is written in: defaults are those of
the node's own opset, `auto_pad` becomes explicit pads by the known shapes, and constants that older versions hold as
attributes and newer ones as inputs (Clip bounds, Pad amounts, axes) appear under one name. Settings that cannot matter
are normalised away: a dilation of a one-wide kernel, `ceil_mode` where the extents divide, `count_include_pad` without
pads, `nearest_mode` of a linear Resize, `pytorch_half_pixel` where no output is one pixel wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.graph.kernels import SPATIAL, Values, explicit_pads, normalised_crop, normalised_pooling
from fetafix.graph.resizing import grid_sample, resize
from fetafix.graph.schema import defaults, shape, version
from fetafix.ir import Body, Graph, Node

__all__ = ["PER_AXIS", "FrontPad", "absorbed", "canonical", "defaults", "front_pad", "shape", "version"]

PER_AXIS = frozenset({
    "Concat", "Gather", "GatherElements", "Split", "ArgMax", "ArgMin", "Softmax", "LogSoftmax", "Hardmax", "CumSum",
    "LayerNormalization", "OneHot", "LpNormalization", "ScatterElements", "Compress", "QuantizeLinear",
    "DequantizeLinear",
})
_REDUCTIONS = tuple(
    f"Reduce{k}" for k in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
)
_INERT = frozenset({"momentum", "storage_order", "consumed_inputs", "is_test", "stash_type", "num_outputs"})


def canonical(node: Node, graph: Graph) -> Values:
    """A node's attributes with everything implicit made explicit; see the module docstring.

    Keys are ONNX's attribute names. Tuples hold ints or floats; pads are (begin…, end…); axes are non-negative where
    the rank is known; Clip-like operators (Clip, Relu) have float `min` and `max`.
    """
    values: Values = {**defaults(node.op, node.domain, version(graph, node)), **node.attrs}
    values = {k: v for k, v in values.items() if k not in _INERT and not isinstance(v, Body)}
    special = _SPECIAL.get(node.op)
    if node.domain == "" and special is not None:
        values = special(node, graph, values)
    return values


# ---------------------------------------------------------------- operators with kernels and pads


def _spatial(node: Node, graph: Graph, values: Values) -> Values:
    weight = graph.constant(node, 3 if node.op == "QLinearConv" else 1)
    kernel = tuple(values.get("kernel_shape") or (weight.shape[2:] if weight is not None else ()))
    if not kernel:
        return values
    n = len(kernel)
    source, out = shape(graph, node.input(0)), shape(graph, node.key)
    strides = tuple(values.get("strides") or (1,) * n)
    dilations = tuple(values.get("dilations") or (1,) * n)
    dilations = tuple(1 if k == 1 else d for k, d in zip(kernel, dilations, strict=True))
    values |= {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if node.op == "ConvTranspose":
        values["output_padding"] = tuple(values.get("output_padding") or (0,) * n)
    pads = explicit_pads(node.op, values, source, out)
    if pads is not None:
        values["pads"] = pads
        values.pop("auto_pad", None)
        values.pop("output_shape", None)
    values = normalised_crop(normalised_pooling(values, source))
    extra = absorbed(node, graph)
    if extra is not None and pads is not None:
        if "count_include_pad" in values:
            values["count_include_pad"] = int(any(extra) or values["count_include_pad"])
        values["pads"] = tuple(p + e for p, e in zip(pads, extra, strict=True))
    return values


@dataclass(frozen=True, slots=True)
class FrontPad:
    """A Pad in front of a kernel operator: spatial pads (begin…, end…) in the operator's layout, mode, constant."""

    node: Node
    pads: tuple[int, ...]
    mode: str
    value: float


def front_pad(node: Node, graph: Graph) -> FrontPad | None:
    """The Pad that a kernel operator reads from, directly or through Transposes; None where it pads other axes too."""
    perm: tuple[int, ...] = ()
    pad = graph.producers.get(node.input(0))
    while pad is not None and pad.op == "Transpose":
        turn = canonical(pad, graph).get("perm", ())
        perm = tuple(turn[p] for p in perm) if perm else turn
        pad = graph.producers.get(pad.input(0))
    if pad is None or pad.op != "Pad" or node.op not in SPATIAL:
        return None
    values = canonical(pad, graph)
    pads, rank = values.get("pads"), len(graph.shapes.get(pad.input(0), ()))
    if pads is None or rank < 3 or len(pads) != 2 * rank or (perm and len(perm) != rank) or min(pads) < 0:
        return None
    order = perm or tuple(range(rank))
    begin, end = [pads[p] for p in order], [pads[rank + p] for p in order]
    if any((*begin[:2], *end[:2])):
        return None
    return FrontPad(pad, (*begin[2:], *end[2:]), values["mode"], float(values.get("value", 0.0)))


def absorbed(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """Spatial pads (begin…, end…) of a zero Pad in front of a kernel operator that does the same as pads of its own.

    An AveragePool counts such pads, so one that has uncounted pads beside is left alone.
    """
    front = front_pad(node, graph) if node.op in ("Conv", "ConvInteger", "AveragePool") else None
    if front is None or front.mode != "constant" or front.value != 0.0:
        return None
    if node.op == "AveragePool" and any(node.attrs.get("pads", ())) and not node.attrs.get("count_include_pad"):  # type: ignore[arg-type]
        return None
    return front.pads


# ---------------------------------------------------------------- attributes that became inputs


def _scalar(graph: Graph, node: Node, slot: int) -> float | None:
    value = graph.constant(node, slot)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _clip(node: Node, graph: Graph, values: Values) -> Values:
    if node.op == "Relu":
        return {"min": 0.0, "max": math.inf}
    largest = float(np.finfo(np.float32).max)
    low, high = values.get("min"), values.get("max")
    if version(graph, node) >= 11:
        low, high = _scalar(graph, node, 1), _scalar(graph, node, 2)
    return {
        "min": -math.inf if low is None or low <= -largest else float(low),
        "max": math.inf if high is None or high >= largest else float(high),
    }


def _pad(node: Node, graph: Graph, values: Values) -> Values:
    dims, pads = shape(graph, node.input(0)), values.get("pads", values.pop("paddings", None))
    values.setdefault("mode", "constant")
    fill: Any = values.pop("value", 0.0)
    if version(graph, node) >= 11:
        given, axes = graph.constant(node, 1), graph.constant(node, 3)
        pads = None if given is None else tuple(int(p) for p in given)
        scalar = graph.constant(node, 2)
        fill = float(scalar.reshape(-1)[0]) if scalar is not None and scalar.size else 0.0
        if pads is not None and axes is not None and dims is not None:
            spread = [0] * (2 * len(dims))
            for i, axis in enumerate(int(a) % len(dims) for a in axes):
                spread[axis], spread[len(dims) + axis] = pads[i], pads[len(axes) + i]
            pads = tuple(spread)
    if pads is not None:
        values["pads"] = tuple(pads)
    if values["mode"] == "constant":
        values["value"] = float(fill)
    return values


def _axes(node: Node, graph: Graph, values: Values) -> Values:
    axes = values.get("axes")
    if node.input(1):
        given = graph.constant(node, 1)
        axes = None if given is None else tuple(int(a) for a in given.reshape(-1))
    dims = shape(graph, node.input(0))
    if dims is not None:
        rank = len(dims) + (len(axes or ()) if node.op == "Unsqueeze" else 0)
        if axes is None and node.op.startswith("Reduce") and not values.get("noop_with_empty_axes"):
            axes = tuple(range(rank))
        axes = None if axes is None else tuple(sorted(a % rank for a in axes))
    if axes is not None:
        values["axes"] = tuple(axes)
    values.pop("noop_with_empty_axes", None)
    return values


def _axis(node: Node, graph: Graph, values: Values) -> Values:
    dims = shape(graph, node.input(0))
    if dims and isinstance(values.get("axis"), int):
        values["axis"] = values["axis"] % len(dims)
        flattening = node.op in ("Softmax", "LogSoftmax", "Hardmax") and version(graph, node) < 13
        if flattening and math.prod(dims[values["axis"] + 1:]) > 1:
            values["flattened"] = 1
    return values


def _reshape(node: Node, graph: Graph, values: Values) -> Values:
    given = graph.constant(node, 1)
    if given is not None:
        values["shape"] = tuple(int(d) for d in given)
    return values


def _transpose(node: Node, graph: Graph, values: Values) -> Values:
    dims = shape(graph, node.input(0))
    if "perm" not in values and dims is not None:
        values["perm"] = tuple(reversed(range(len(dims))))
    return values


def _batchnorm(node: Node, graph: Graph, values: Values) -> Values:
    if version(graph, node) >= 9:
        values.pop("spatial", None)
    return values


def _gemm(node: Node, graph: Graph, values: Values) -> Values:
    if not node.input(2):
        values.pop("beta", None)
    return values


_SPECIAL: dict[str, Callable[[Node, Graph, Values], Values]] = {
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(PER_AXIS, _axis),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _axes),
    **dict.fromkeys(_REDUCTIONS, _axes),
    "Clip": _clip, "Relu": _clip, "Pad": _pad, "Reshape": _reshape, "Transpose": _transpose, "Flatten": _axis,
    "Resize": resize, "Upsample": resize, "GridSample": grid_sample, "BatchNormalization": _batchnorm, "Gemm": _gemm,
}
