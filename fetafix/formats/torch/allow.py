"""What a pickled PyTorch module may consist of: exact lists, nothing by pattern.

Modules: the layer classes of torch.nn (their `forward` is PyTorch's own code) and every converter class of onnx2torch.
Functions: tensor arithmetic only, the ones that onnx2torch stores in its modules or that a traced forward calls.
"""

from __future__ import annotations

import collections
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

# Classes of torch.nn that run something else than their own layer: quantisation wrappers, data parallelism, lazy
# initialisation hooks. They have no place in a converted model.
_REFUSED_LAYERS = {"DataParallel", "Container"}

_FUNCTIONS = """abs acos acosh add addcmul addmm amax amin argmax argmin asin asinh atan atanh baddbmm bmm cat ceil
celu chunk clamp clip conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cos cosh cumsum div
einsum eq erf exp eye flatten flip floor floor_divide fmod full gather ge greater greater_equal gt index_select le
less less_equal log log_softmax logical_and logical_not logical_or logical_xor logsumexp lt masked_fill matmul max
maximum mean min minimum mm mul ne neg norm ones ones_like permute pixel_shuffle pow prod prelu reciprocal relu
relu_ remainder reshape round rsqrt scatter selu sigmoid sign sin sinh softmax split sqrt square squeeze stack sub
subtract sum swapaxes tan tanh tensor tile topk transpose true_divide unbind unsqueeze where zeros zeros_like
multiply divide addcdiv adaptive_avg_pool1d avg_pool1d batch_norm celu_ dropout hardshrink instance_norm layer_norm
selu_ rsub"""

_FUNCTIONAL = """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d avg_pool1d
avg_pool2d avg_pool3d batch_norm celu dropout elu gelu group_norm hardsigmoid hardswish hardtanh instance_norm
interpolate layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid max_pool1d max_pool2d
max_pool3d mish normalize pad pixel_shuffle prelu relu relu6 selu sigmoid silu softmax softplus softsign tanh
embedding"""

_OPERATORS = """add sub mul truediv floordiv mod neg getitem eq ne lt le gt ge pow matmul and_ or_ xor invert iadd
isub imul itruediv"""

_METHOD_NAMES = """add add_ sub mul div neg abs pow sqrt rsqrt exp log sum mean max min amax amin prod clamp clamp_ clip
relu sigmoid tanh softmax log_softmax view reshape flatten permute transpose t contiguous squeeze unsqueeze expand
expand_as repeat size dim type_as float double half int long bool to chunk split unbind select narrow masked_fill
matmul bmm mm cumsum sign round floor ceil clone detach numel new_zeros new_ones item tolist argmax argmin topk
gather index_select eq ne lt le gt ge where norm var std flip roll square reciprocal erf"""
METHODS = frozenset(_METHOD_NAMES.split())

_ONNX2TORCH_FUNCTIONS = {
    "onnx2torch.node_converters.binary_math_operations": ("_onnx_div",),
    "onnx2torch.node_converters.reduce": ("_log_sum", "_log_sum_exp", "_sum_square", "_get_element"),
}
_ENUMS = {"onnx2torch.node_converters.roialign": ("CoordinateTransformationModeOnnxAttr",)}


def layer(home: str, name: str) -> type | None:
    """The module class of that name, or None where it is not allowed. Imports onnx2torch for its own classes only."""
    if home.startswith("onnx2torch."):
        return _converters().get((home, name))
    return _layers().get((home, name))


def function(home: str, name: str) -> Callable[..., Any] | None:
    """The function of that name, or None where it is not allowed."""
    return (_converter_functions() if home.startswith("onnx2torch.") else _functions()).get((home, name))


@cache
def _layers() -> Mapping[tuple[str, str], type]:
    """(module, class name) → class of torch.nn."""
    import torch

    allowed: dict[tuple[str, str], type] = {}
    for value in vars(torch.nn).values():
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            lazy = value.__name__.startswith("Lazy")
            if value.__module__.startswith("torch.nn.modules.") and not lazy and value.__name__ not in _REFUSED_LAYERS:
                allowed[value.__module__, value.__name__] = value
    linear = torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    allowed[linear.__module__, linear.__name__] = linear
    return MappingProxyType(allowed)


@cache
def _converters() -> dict[tuple[str, str], type]:
    """The module classes of onnx2torch, empty where it is not installed."""
    if importlib.util.find_spec("onnx2torch") is None:
        return {}
    import torch

    from fetafix.formats.torch.env import prepare

    prepare()
    package = importlib.import_module("onnx2torch.node_converters")
    importlib.import_module("onnx2torch.converter")
    found: dict[tuple[str, str], type] = {}
    names = [n for n in package.__dict__ if not n.startswith("_")] + ["converter"]
    for name in names:
        prefix = "onnx2torch" if name == "converter" else "onnx2torch.node_converters"
        module = importlib.import_module(f"{prefix}.{name}") if importlib.util.find_spec(f"{prefix}.{name}") else None
        for value in vars(module).values() if module else ():
            if (
                isinstance(value, type)
                and issubclass(value, torch.nn.Module)
                and value.__module__ == f"{prefix}.{name}"
            ):
                found[value.__module__, value.__name__] = value
    return found


@cache
def _functions() -> Mapping[tuple[str, str], Callable[..., Any]]:
    """(module, name) → function, for every function that may be named in a file."""
    import math
    import operator

    import torch

    allowed: dict[tuple[str, str], Callable[..., Any]] = {}
    for name in _FUNCTIONS.split():
        if hasattr(torch, name):
            for home in ("torch", "torch._C._VariableFunctionsClass", "torch._VariableFunctionsClass"):
                allowed[home, name] = getattr(torch, name)
    for name in _FUNCTIONAL.split():
        for home in ("torch.nn.functional", "torch._C._nn"):
            if hasattr(torch.nn.functional, name):
                allowed[home, name] = getattr(torch.nn.functional, name)
    for name in _OPERATORS.split():
        allowed["_operator", name] = allowed["operator", name] = getattr(operator, name)
    allowed["math", "floor"] = math.floor
    allowed["torch.functional", "norm"] = torch.norm
    allowed["torch.functional", "einsum"] = torch.einsum
    allowed["torch.functional", "split"] = torch.split
    return MappingProxyType(allowed)


@cache
def _converter_functions() -> Mapping[tuple[str, str], Callable[..., Any]]:
    if not _converters():
        return {}
    pairs = ((home, n) for home, names in _ONNX2TORCH_FUNCTIONS.items() for n in names)
    return {(home, n): getattr(importlib.import_module(home), n) for home, n in pairs}


def enum(home: str, name: str) -> type | None:
    """The enum class of that name that onnx2torch stores in its modules, or None."""
    if name not in _ENUMS.get(home, ()) or not _converters():
        return None
    return getattr(importlib.import_module(home), name)  # type: ignore[no-any-return]


PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
}
