"""Which constants and variables of a flat TensorFlow graph are weights: what products and convolutions multiply by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fetafix.formats.tensorflow.graph import split

_LAST = -1
# operator → the slots of its weights, and the axis of the output channels there (None: of no use as channels)
_WEIGHTS: Mapping[str, Mapping[int, int | None]] = {
    "Conv2D": {1: 3}, "_FusedConv2D": {1: 3}, "Conv3D": {1: 4}, "DepthwiseConv2dNative": {1: 2},
    "_FusedDepthwiseConv2dNative": {1: 2}, "Conv2DBackpropInput": {1: 2}, "Conv3DBackpropInputV2": {1: 3},
    "Dilation2D": {1: 2}, "Einsum": {0: None, 1: None}, "XlaEinsum": {0: None, 1: None}, "GatherV2": {0: 0},
    "Gather": {0: 0}, "ResourceGather": {0: 0}, "BlockLSTM": {4: _LAST}, "BlockLSTMV2": {4: _LAST},
    "LSTMBlockCell": {3: _LAST}, "GRUBlockCell": {2: _LAST, 3: _LAST},
}  # fmt: skip
_TURNED = {"MatMul": ("transpose_a", "transpose_b"), "_FusedMatMul": ("transpose_a", "transpose_b"),
           "BatchMatMul": ("adj_x", "adj_y"), "BatchMatMulV2": ("adj_x", "adj_y"), "BatchMatMulV3": ("adj_x", "adj_y")}
_LOOPS = ("While", "StatelessWhile")
_PASS = ("Identity", "ReadVariableOp", "Cast", "Enter", "StopGradient", "Snapshot", "CheckNumerics", "Reshape",
         "Squeeze", "ExpandDims", "Transpose", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs",
         "FakeQuantWithMinMaxVarsPerChannel")
_SHAPED = ("Reshape", "Squeeze", "ExpandDims")


def weights(nodes: Iterable[Any]) -> dict[str, int | None]:
    """Const or variable node → the axis of its output channels, negative from the end, None where that is not known.

    What a loop is given counts as well: recurrent layers multiply by it within.
    """
    known = {n.name: n for n in nodes}
    found: dict[str, int | None] = {}
    for node in known.values():
        for slot, axis in _slots(node).items():
            if slot < len(node.input) and not node.input[slot].startswith("^"):
                root, own = _back(known, node.input[slot], axis)
                if root:
                    found.setdefault(root, own)
    return found


def _slots(node: Any) -> Mapping[int, int | None]:
    if node.op in _LOOPS:
        return dict.fromkeys(range(len(node.input)))
    if node.op not in _TURNED:
        return _WEIGHTS.get(node.op, {})
    a, b = (node.attr[name].b for name in _TURNED[node.op])
    return {0: _LAST if a else _LAST - 1, 1: _LAST - 1 if b else _LAST}


def _back(nodes: Mapping[str, Any], tensor: str, axis: int | None) -> tuple[str, int | None]:
    """(Const or variable that a tensor is made of, its axis of output channels); ("", None) where it is of neither."""
    node = nodes.get(split(tensor)[0])
    while node is not None and node.op in _PASS and node.input:
        if node.op in _SHAPED:
            axis = None
        elif node.op == "Transpose":
            axis = _through(nodes.get(split(node.input[1])[0]), axis)
        node = nodes.get(split(node.input[0])[0])
    if node is None or node.op not in ("Const", "VarHandleOp", "VariableV2", "Variable"):
        return "", None
    return str(node.name), axis


def _through(order: Any, axis: int | None) -> int | None:
    """The channels' axis in front of a Transpose, whose permutation is a node."""
    if axis is None or order is None or order.op != "Const":
        return None
    tensor = order.attr["value"].tensor
    perm = np.frombuffer(tensor.tensor_content, "<i4") if tensor.tensor_content else np.asarray(tensor.int_val)
    return int(perm[axis]) if -perm.size <= axis < perm.size else None
