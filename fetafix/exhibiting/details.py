"""A node's attributes and its weights' shapes in a few words, as they stand beside a box: "kernel 3×3, strides 2×2"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fetafix.graph.attributes import canonical
from fetafix.ir import Graph, Node

_MOST = 8
_SETTINGS = ("kernel_shape", "strides", "dilations", "pads", "output_padding")  # these are always told
_WORDS = {"kernel_shape": "kernel", "output_padding": "output padding", "perm": "order of axes",
          "coordinate_transformation_mode": "coordinates", "epsilon": "ε"}
_TIMES = frozenset({"kernel_shape", "strides", "dilations", "output_padding", "sizes", "scales"})
_USUAL: Mapping[str, Any] = {
    "group": 1, "auto_pad": "NOTSET", "ceil_mode": 0, "count_include_pad": 0, "alpha": 1.0, "beta": 1.0, "transA": 0,
    "transB": 0, "keepdims": 1, "noop_with_empty_axes": 0, "training_mode": 0, "allowzero": 0, "antialias": 0,
    "exclude_outside": 0, "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch",
}  # fmt: skip
_CONSTANTS = {
    "Conv": ("", "weights", "bias"), "ConvTranspose": ("", "weights", "bias"), "Gemm": ("", "weights", "bias"),
    "MatMul": ("weights", "weights"), "BatchNormalization": ("", "scale", "bias", "mean", "variance"),
    "LayerNormalization": ("", "scale", "bias"), "InstanceNormalization": ("", "scale", "bias"),
    "PRelu": ("", "slope"), "LSTM": ("", "weights", "recurrent weights", "bias"),
    "GRU": ("", "weights", "recurrent weights", "bias"), "RNN": ("", "weights", "recurrent weights", "bias"),
}  # fmt: skip


def detail(node: Node, graph: Graph) -> str:
    """The words; "" where there is nothing to tell."""
    values = canonical(node, graph)
    parts = [f"{_WORDS.get(k, k)} {_said(k, values[k])}" for k in _SETTINGS if values.get(k)]
    parts += _constants(node, graph)
    for name, value in values.items():
        if name in _SETTINGS or value is None or _usual(node, name, value) or isinstance(value, np.ndarray):
            continue
        parts.append(f"{_WORDS.get(name, name)} {_said(name, value)}")
    return ", ".join(parts[:_MOST])


def _usual(node: Node, name: str, value: Any) -> bool:
    bound = name in ("min", "max") and (node.op == "Relu" or not np.isfinite(value))
    return bound or bool(name in _USUAL and _USUAL[name] == _text(value)) or _text(value) in ("", ())


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _said(name: str, value: Any) -> str:
    value = _text(value)
    if isinstance(value, tuple | list):
        if name in ("pads", "output_padding") and len(set(value)) == 1:
            return str(value[0])  # on all sides
        return ("×" if name in _TIMES else ", ").join(_said("", v) for v in value[:_MOST])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _constants(node: Node, graph: Graph) -> Iterator[str]:
    """Weights by their shapes, single numbers by their values."""
    roles = _CONSTANTS.get(node.op, ())
    for slot, tensor in enumerate(node.inputs):
        value = graph.value_of(tensor) if tensor and graph.fixed(tensor) else None
        if value is None or value.dtype.kind not in "fV":
            continue
        role = roles[slot] if slot < len(roles) else "constant"
        told = "×".join(map(str, value.shape)) if value.size != 1 else f"{float(value.reshape(-1)[0]):g}"
        yield f"{role or 'constant'} {told}"
