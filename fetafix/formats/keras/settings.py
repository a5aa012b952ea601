"""Which setting of a Keras layer an ONNX attribute corresponds to, and how its value is written there.

Layouts differ: an axis of the ONNX tensor is turned into the layer's own; spatial attributes need no turning, for Keras
and ONNX list them in the same order. Padding is a word in Keras: "same", "valid", or a layer of its own in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.graph import Call
from fetafix.formats.keras.parameters import Delta
from fetafix.formats.transfer import SetArgument, SetConstant
from fetafix.ir import Attribute, Node

Shape = tuple[int | None, ...]
_WINDOW = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}
# (operator, attribute) → (setting, the value that an absent attribute stands for)
_PLAIN: dict[tuple[str, str], tuple[tuple[str, ...], Attribute]] = {
    ("BatchNormalization", "epsilon"): (("epsilon",), 1e-5),
    ("LayerNormalization", "epsilon"): (("epsilon",), 1e-5),
    ("LeakyRelu", "alpha"): (("negative_slope",), 0.01),
    ("Elu", "alpha"): (("alpha",), 1.0),
}
_AXES: dict[str, int] = {"Softmax": -1, "Concat": 1, "LogSoftmax": -1}
_MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}


def settings(
    call: Call, constants: Sequence[SetConstant], arguments: Sequence[SetArgument], shape: Shape, perm: tuple[int, ...]
) -> Delta:
    """The layer's new settings. shape: of what it reads. perm: from the ONNX tensor's layout to the layer's.

    Raises Unsupported where the layer has no setting for a change.
    """
    config = _config(call)
    made: dict[str, Any] = {}
    for constant in constants:
        made.update(_constant(call, constant, config))
    if arguments and arguments[0].node.op in _WINDOW:
        made.update(_window(call, arguments, config, shape))
    else:
        for change in arguments:
            made.update(_argument(call, change, config, perm))
    return Delta({}, made)


def _config(call: Call) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = call.operation.get_config()
    except (NotImplementedError, ValueError, TypeError) as error:
        raise Unsupported(f"{call.name} tells no configuration: {error}") from error
    return config


def _constant(call: Call, change: SetConstant, config: Mapping[str, Any]) -> dict[str, Any]:
    """Clip's bounds are inputs in ONNX and settings of ReLU in Keras."""
    kind = type(call.operation).__name__
    if change.node.op == "Clip" and kind == "ReLU":
        value = None if change.new is None else float(np.asarray(change.new).reshape(()))
        if change.slot == 2 and (value is None or value >= 0):
            return {"max_value": value}
        if change.slot == 1 and value == 0:
            return {}
    raise Unsupported(f"{call.name} ({kind}) has no setting for input {change.slot} of {change.node.op}")


def _argument(call: Call, change: SetArgument, config: Mapping[str, Any], perm: tuple[int, ...]) -> dict[str, Any]:
    op, attribute = change.node.op, change.attribute
    kind = type(call.operation).__name__
    if attribute == "axis" and op in _AXES and kind in ("Softmax", "Concatenate"):
        axis = int(_value(change, _AXES[op])) % len(perm)
        return {"axis": perm.index(axis)}
    if op == "Resize" and "interpolation" in config and attribute == "mode":
        return {"interpolation": _MODES[str(change.value)]}
    names, default = _PLAIN.get((op, attribute), ((), 0))
    name = next((n for n in names if n in config), None)
    if name is None:
        raise Unsupported(f"{op}.{attribute} has no counterpart in {call.name} ({kind})")
    return {name: float(_value(change, default))}


def _value(change: SetArgument, default: Attribute) -> Any:
    return default if change.value is None else change.value


def _window(
    call: Call, arguments: Sequence[SetArgument], config: Mapping[str, Any], shape: Shape
) -> dict[str, Any]:
    """Strides, dilations, sizes and padding of a layer that slides a window over an image or a sequence."""
    node, kind = arguments[0].node, type(call.operation).__name__
    attributes: dict[str, Any] = {**node.attrs, **{a.attribute: a.value for a in arguments}}
    attributes = {k: v for k, v in attributes.items() if v is not None}
    changed = {a.attribute for a in arguments}
    known = {"strides", "dilations", "kernel_shape", "pads", "auto_pad", "ceil_mode", "group"}
    if changed - known or node.op == "ConvTranspose":
        raise Unsupported(f"{node.op}.{', '.join(sorted(changed))} has no counterpart in {call.name} ({kind})")
    if "group" in changed or attributes.get("ceil_mode"):
        raise Unsupported(f"{call.name} ({kind}) cannot take another number of groups, or a size rounded up")
    spatial = _spatial(shape, config)
    made: dict[str, Any] = {}
    strides, dilations, kernel = window(node, attributes, len(spatial))
    if not kernel:
        kernel = tuple(int(k) for k in config.get("kernel_size") or config.get("pool_size") or ())
    if "kernel_shape" in changed and "pool_size" not in config:
        raise Unsupported(f"{call.name} takes its kernel's size from its weights")
    for key, value in (("strides", strides), ("dilation_rate", dilations), ("pool_size", kernel)):
        if key in config and not _same(config[key], value):
            made[key] = list(value)
        elif key == "dilation_rate" and key not in config and set(dilations) - {1}:
            raise Unsupported(f"{call.name} ({kind}) takes no dilation")
    was = word(node.attrs, spatial, kernel, *window(node, node.attrs, len(spatial))[:2])
    if was != config.get("padding", "valid"):
        raise Unsupported(f"{call.name} is padded by a layer of its own in front")
    padding = word(attributes, spatial, kernel, strides, dilations)
    if padding is None:
        raise Unsupported(f"{call.name}: these pads are neither Keras's 'same' nor 'valid'")
    return made if config.get("padding", "valid") == padding else {**made, "padding": padding}


def window(node: Node, attributes: Mapping[str, Any], rank: int) -> tuple[tuple[int, ...], ...]:
    """(strides, dilations, kernel) with ONNX's defaults; the kernel is () where only the weights tell it."""
    ones = (1,) * rank
    strides, dilations = (tuple(attributes.get(k) or ones) for k in ("strides", "dilations"))
    return strides, dilations, tuple(attributes.get("kernel_shape") or ())


def word(
    attributes: Mapping[str, Any],
    spatial: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> str | None:
    """"same" or "valid" where the ONNX padding is one of these at this size; None otherwise."""
    rank = len(strides)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return "same"
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank)) if auto == "NOTSET" else (0,) * (2 * rank)
    if auto == "SAME_LOWER":
        return None
    if not any(pads):
        return "valid"
    if None in spatial:
        if set(strides) == {1} and all(p + q == (k - 1) * d and q - p in (0, 1) for p, q, k, d in
                                       zip(pads[:rank], pads[rank:], kernel, dilations, strict=True)):
            return "same"
        return None
    return "same" if pads == same_pads([int(n or 0) for n in spatial], kernel, strides, dilations) else None


def same_pads(
    spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """ONNX pads (all begins, then all ends) that TensorFlow's SAME stands for: the odd one at the end."""
    spans = zip(spatial, kernel, strides, dilations, strict=True)
    total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in spans]
    return (*(t // 2 for t in total), *(t - t // 2 for t in total))


def _spatial(shape: Shape, config: Mapping[str, Any]) -> Shape:
    return shape[2:] if config.get("data_format") == "channels_first" else shape[1:-1]


def _same(held: Any, value: Sequence[int]) -> bool:
    sizes = [held] * len(value) if isinstance(held, int) else list(held)
    return sizes == list(value)
