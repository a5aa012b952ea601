"""ONNX attributes on TensorFlow operators: strides, dilations and padding, epsilon, alpha, axes, transposed operands.

A node may lack attributes that have their default value, and asking protobuf for one that is not there puts an empty
one in, which TensorFlow refuses: hence every `in`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tensorflow.graph import split
from fetafix.formats.transfer import Changes
from fetafix.ir import Attribute, Node

Action = Callable[[], None]
_SPATIAL = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "Conv3D")


def actions(host: Any, unit: Sequence[Any], changes: Changes) -> list[Action]:
    """What to do to the nodes of one operator. Raises Unsupported where TensorFlow's operator has no such setting."""
    by_node: dict[int, tuple[Node, dict[str, Attribute | None]]] = {}
    for change in changes.arguments:
        by_node.setdefault(id(change.node), (change.node, {}))[1][change.attribute] = change.value
    found: list[Action] = []
    for node, values in by_node.values():
        attrs = {k: v for k, v in {**node.attrs, **values}.items() if v is not None}
        setter = _SETTERS.get(node.op)
        if setter is None:
            raise Unsupported(f"{node.label}: {node.op} has no attribute {next(iter(values))} in TensorFlow")
        found += setter(host, unit, node, attrs, set(values))
    return found


def _native(unit: Sequence[Any], ops: Sequence[str], node: Node) -> Any:
    found = [n for n in unit if n.op in ops]
    if len(found) != 1:
        raise Unsupported(f"{node.label}: TensorFlow computes it by {', '.join(sorted({n.op for n in unit}))}")
    return found[0]


def _window(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    """Strides, dilations, kernel and padding of a convolution or pooling that stands alone."""
    native = _native(unit, _SPATIAL, node)
    odd = {n.op for n in unit} & {"Pad", "PadV2", "MirrorPad", "SpaceToBatchND", "BatchToSpaceND", "Squeeze"}
    if odd or names - {"strides", "dilations", "pads", "auto_pad", "kernel_shape"} or native.op == "Conv3D":
        raise Unsupported(f"{node.label}: {', '.join(sorted(names))} cannot be set on {native.op}")
    last = "data_format" not in native.attr or native.attr["data_format"].s == b"NHWC"
    axes = (1, 2) if last else (2, 3)
    dims = 2
    strides, dilations = attrs.get("strides", (1,) * dims), attrs.get("dilations", (1,) * dims)
    if len(strides) != 2 or (native.op != "Conv2D" and tuple(dilations) != (1, 1)):
        raise Unsupported(f"{node.label}: {native.op} has no dilations on the CPU")
    if native.op == "DepthwiseConv2dNative" and strides[0] != strides[1]:
        raise Unsupported(f"{node.label}: {native.op} has one stride for both axes")
    padding = _padding(native, attrs, node, axes)  # SAME would follow the new strides, which ONNX's numbers do not

    def change() -> None:
        host.structural = True
        _set(native, "strides", strides, axes)
        if native.op in ("Conv2D", "DepthwiseConv2dNative"):
            _set(native, "dilations", dilations, axes)
        elif "kernel_shape" in attrs:
            _set(native, "ksize", attrs["kernel_shape"], axes)
        native.attr["padding"].s = padding[0]
        if native.op != "AvgPool":
            native.attr["explicit_paddings"].CopyFrom(_integers(padding[1]))
        for n in unit:
            n.attr.pop("_output_shapes", None)

    return [change]


def _padding(native: Any, attrs: dict[str, Any], node: Node, axes: tuple[int, int]) -> tuple[bytes, list[int]]:
    mode = attrs.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    pads = attrs.get("pads", (0, 0, 0, 0)) if mode == "NOTSET" else (0, 0, 0, 0)
    if mode == "SAME_UPPER":
        return b"SAME", []
    if mode == "SAME_LOWER" or len(pads) != 4:
        raise Unsupported(f"{node.label}: TensorFlow has no padding {mode}")
    if not any(pads):
        return b"VALID", []
    if _is_same(attrs, pads):
        return b"SAME", []
    if native.op in ("AvgPool", "DepthwiseConv2dNative"):  # the latter's explicit padding aborts TensorFlow's optimizer
        raise Unsupported(f"{node.label}: {native.op} has no explicit padding")
    explicit = [0] * 8
    for i, axis in enumerate(axes):
        explicit[2 * axis], explicit[2 * axis + 1] = int(pads[i]), int(pads[i + 2])
    return b"EXPLICIT", explicit


def _is_same(attrs: dict[str, Any], pads: Sequence[int]) -> bool:
    """Whether SAME gives these pads whatever the size: at stride 1 it does not depend on that."""
    kernel = attrs.get("kernel_shape")
    if kernel is None or max(attrs.get("strides", (1,))) > 1:
        return False
    total = [(k - 1) * d for k, d in zip(kernel, attrs.get("dilations", (1,) * len(kernel)), strict=True)]
    return tuple(pads) == (*(t // 2 for t in total), *(t - t // 2 for t in total))


def _set(native: Any, name: str, values: Sequence[int], axes: tuple[int, int]) -> None:
    new = list(native.attr[name].list.i) if name in native.attr else [1, 1, 1, 1]
    for axis, value in zip(axes, values, strict=True):
        new[axis] = int(value)
    native.attr[name].CopyFrom(_integers(new))


def _integers(values: Sequence[int]) -> Any:
    from tensorflow.core.framework import attr_value_pb2

    return attr_value_pb2.AttrValue(list=attr_value_pb2.AttrValue.ListValue(i=values))


def _batch_norm(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    native = _native(unit, ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), node)
    if names - {"epsilon", "momentum"}:
        raise Unsupported(f"{node.label}: {native.op} needs other inputs for {', '.join(sorted(names))}")

    def change() -> None:
        host.structural = True
        native.attr["epsilon"].f = float(attrs.get("epsilon", 1e-5))

    return [change]


def _alpha(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    native = _native(unit, ("LeakyRelu",), node)

    def change() -> None:
        host.structural = True
        native.attr["alpha"].f = float(attrs.get("alpha", 0.01))

    return [change]


def _concat(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    native = _native(unit, ("ConcatV2",), node)
    held = next((h for t, h in host.tensors.items() if t == node.outputs[0]), None)
    axis = int(attrs.get("axis", 0))
    if held is not None and held.perm:
        axis = held.perm[axis]
    slot = int(native.attr["N"].i)
    wide = "Tidx" in native.attr and native.attr["Tidx"].type == 9  # DT_INT64
    dtype = np.int64 if wide else np.int32

    def change() -> None:
        host.structural = True
        native.input[slot] = host.add_constant(f"{native.name}/fetafix_axis", np.array(axis, dtype))

    return [change]


def _matmul(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    native = _native(unit, ("MatMul",), node)
    if names - {"transA", "transB"}:
        raise Unsupported(f"{node.label}: MatMul has no {', '.join(sorted(names))}")
    flips = {"transA": "transpose_a", "transB": "transpose_b"}

    def change() -> None:
        host.structural = True
        for name in names:
            if bool(attrs.get(name, 0)) != bool(node.attrs.get(name, 0)):
                native.attr[flips[name]].b = not native.attr[flips[name]].b

    return [change]


def _transpose(host: Any, unit: Sequence[Any], node: Node, attrs: dict[str, Any], names: set[str]) -> list[Action]:
    native = _native(unit, ("Transpose",), node)
    source = next((h for t, h in host.tensors.items() if t == node.input(0)), None)
    made = next((h for t, h in host.tensors.items() if t == node.outputs[0]), None)
    plain = source is not None and made is not None and not source.perm and not made.perm
    if source is None or not plain or split(native.input[0])[0] != split(source.tensor)[0]:
        raise Unsupported(f"{node.label}: TensorFlow keeps what it turns in another layout")
    perm = np.array(attrs["perm"], np.int32)

    def change() -> None:
        host.set_input(native, 1, perm)

    return [change]


_SETTERS: dict[str, Callable[[Any, Sequence[Any], Node, dict[str, Any], set[str]], list[Action]]] = {
    "Conv": _window, "MaxPool": _window, "AveragePool": _window, "BatchNormalization": _batch_norm,
    "LeakyRelu": _alpha, "Concat": _concat, "Gemm": _matmul, "MatMul": _matmul, "Transpose": _transpose,
}
