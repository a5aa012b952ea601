"""Which argument of a PyTorch layer or operator an ONNX attribute corresponds to, and how its value is written there.

Layers (`Conv2d.dilation`), onnx2torch modules (`OnnxConcat.axis`) and ATen operators (`aten::conv2d(…, dilation)`)
use the same names with few exceptions, so one table serves modules, exported graphs and TorchScript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fetafix.formats.base import Unsupported
from fetafix.ir import Attribute


def _list(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value)


def _pads(value: Any) -> tuple[int, ...]:
    half = len(value) // 2
    if tuple(value[:half]) != tuple(value[half:]):
        raise Unsupported("PyTorch's own padding is symmetric")
    return _list(value[:half])


def _flag(value: Any) -> bool:
    return bool(value)


def _coded(*words: str) -> Callable[[Any], int]:
    """Words as the numbers that ATen operators take: their place in the list, of synonyms separated by "|"."""
    return lambda value: next(i for i, word in enumerate(words) if value in word.split("|"))


Convert = Callable[[Any], Any]
_Entries = dict[str, tuple[tuple[str, ...], Convert]]
_CONV: _Entries = {
    "dilations": (("dilation",), _list),
    "strides": (("stride",), _list),
    "group": (("groups",), int),
    "pads": (("padding",), _pads),
}
_POOL: _Entries = {
    "strides": (("stride",), _list),
    "kernel_shape": (("kernel_size",), _list),
    "pads": (("padding",), _pads),
    "dilations": (("dilation",), _list),
    "ceil_mode": (("ceil_mode",), _flag),
    "count_include_pad": (("count_include_pad",), _flag),
}
_AXIS: _Entries = {"axis": (("dim", "axis"), int)}
_ALPHA: _Entries = {"alpha": (("negative_slope", "alpha"), float)}
_TABLE: dict[str, _Entries] = {
    "Conv": _CONV,
    "ConvTranspose": {**_CONV, "output_padding": (("output_padding",), _list)},
    "MaxPool": _POOL,
    "AveragePool": _POOL,
    "BatchNormalization": {"epsilon": (("eps", "epsilon"), float)},
    "LayerNormalization": {"epsilon": (("eps", "epsilon"), float)},
    "InstanceNormalization": {"epsilon": (("eps", "epsilon"), float)},
    "LeakyRelu": _ALPHA,
    "Elu": _ALPHA,
    "Celu": _ALPHA,
    "HardSigmoid": {"alpha": (("alpha",), float), "beta": (("beta",), float)},
    "Softmax": _AXIS,
    "LogSoftmax": _AXIS,
    "Concat": _AXIS,
    "Gather": _AXIS,
    "Transpose": {"perm": (("perm", "dims"), _list)},
    "Clip": {"min": (("min_val", "min"), float), "max": (("max_val", "max"), float)},
    "GridSample": {
        "mode": (("interpolation_mode",), _coded("linear|bilinear", "nearest", "cubic|bicubic")),
        "padding_mode": (("padding_mode",), _coded("zeros", "border", "reflection")),
        "align_corners": (("align_corners",), _flag),
    },
    "LRN": {
        "size": (("size",), int),
        "alpha": (("alpha",), float),
        "beta": (("beta",), float),
        "bias": (("k",), float),
    },
}
# Attributes that PyTorch has no counterpart for where they hold these values, so there is nothing to write.
_DEFAULTS: dict[tuple[str, str], Attribute] = {
    ("BatchNormalization", "epsilon"): 1e-5,
    ("LayerNormalization", "epsilon"): 1e-5,
    ("InstanceNormalization", "epsilon"): 1e-5,
    ("LeakyRelu", "alpha"): 0.01,
    ("Elu", "alpha"): 1.0,
    ("Celu", "alpha"): 1.0,
    ("HardSigmoid", "alpha"): 0.2,
    ("HardSigmoid", "beta"): 0.5,
    ("Softmax", "axis"): -1,
    ("LogSoftmax", "axis"): -1,
    ("Conv", "group"): 1,
    ("AveragePool", "count_include_pad"): 0,
    ("AveragePool", "ceil_mode"): 0,
    ("MaxPool", "ceil_mode"): 0,
    ("Gather", "axis"): 0,
}
_CLIP_SLOTS = {1: "min", 2: "max"}


def argument(op: str, attribute: str, value: Attribute | None, present: Sequence[str]) -> tuple[str, Any]:
    """(argument name among `present`, value to give it). Raises Unsupported where there is none."""
    names, convert = _TABLE.get(op, {}).get(attribute, ((), None))
    if value is None:
        value = _DEFAULTS.get((op, attribute))
    name = next((n for n in names if n in present), None)
    if name is None or convert is None or value is None:
        raise Unsupported(f"{op}.{attribute} has no counterpart in the native layer")
    return name, convert(value)


def clip_bound(op: str, slot: int) -> str | None:
    """ONNX Clip takes its bounds as inputs; PyTorch as arguments of these names."""
    return _CLIP_SLOTS.get(slot) if op == "Clip" else None
