"""Constants that no single fault changes, in a graph: three copies and what two of them say.

    Equal(a, b) → Where(·, a, c)      whichever copy is struck, and however, NaN included, the others decide

The constants of all tensors of one rank and channel axis share one vote, whose outcome Split deals out (its sizes are
voted on as well), for each node costs time at load. The zero that replaces what is out of range comes of a tensor's
shape alone: it has no bit that could flip. Constant folding leaves nothing of all this at run time.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fetafix.ir import Array
from fetafix.storage.stored_form import spread32

PREFIX = "fetafix/"
ZERO = f"{PREFIX}zero"


class Votes:
    """Gathers constants; `nodes` and `tensors` are what a graph needs for them, to stand in front of its own nodes."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], list[tuple[str, Array]]] = {}
        self._zeros: set[int] = set()
        self._alone: list[onnx.TensorProto] = []

    def keep(self, tensor: onnx.TensorProto) -> None:
        """A small constant of the model itself, under its own name: float32, int8 or uint8."""
        if all(t.name != tensor.name for t in self._alone):
            self._alone.append(tensor)

    @property
    def kept(self) -> set[str]:
        """The names of the model's own constants."""
        return {t.name for t in self._alone}

    def add(self, name: str, constant: Array, rank: int, axis: int | None) -> str:
        """A constant, () or a channel each, float32, in a form that broadcasts over a tensor of this rank; its name."""
        self._groups.setdefault((rank, axis or 0), []).append((name, spread32(constant, rank, axis)))
        return name

    def zero(self, rank: int) -> str:
        """The name of a 0 without bits, of this rank: one of a lower rank is slow to fold against (n, m, 1, 1)."""
        self._zeros.add(rank)
        return f"{ZERO}/{rank}"

    def build(self, opset: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Nodes in order, and initializers."""
        nodes, tensors = [], []
        for rank in sorted(self._zeros):
            shaped, shape = f"{ZERO}/{rank}/shaped", f"{ZERO}/{rank}/shape"
            tensors.append(numpy_helper.from_array(np.zeros((1,) * rank, np.uint8), shaped))
            nodes.append(helper.make_node("Shape", [shaped], [shape]))
            nodes.append(helper.make_node("ConstantOfShape", [shape], [f"{ZERO}/{rank}"]))
        for tensor in self._alone:
            _kept(tensor, nodes, tensors)
        for (rank, axis), members in self._groups.items():
            values = np.concatenate([v for _, v in members], axis)
            stem = f"{PREFIX}constants/{rank}.{axis}"
            if len(members) == 1:
                _vote(stem, values, members[0][0], nodes, tensors)
                continue
            _vote(stem, values, f"{stem}/voted", nodes, tensors)
            nodes.append(_split(stem, axis, members, opset, nodes, tensors))
        return nodes, tensors


def _kept(tensor: onnx.TensorProto, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> None:
    """Integers are voted on as int32, which every opset compares."""
    values, stem = numpy_helper.to_array(tensor), f"{PREFIX}{tensor.name}"
    if values.dtype == np.float32:
        _vote(stem, values, tensor.name, nodes, tensors)
        return
    _vote(stem, values.astype(np.int32), f"{stem}/voted", nodes, tensors)
    nodes.append(helper.make_node("Cast", [f"{stem}/voted"], [tensor.name], to=tensor.data_type))


def _split(
    stem: str, axis: int, members: list[tuple[str, Array]], opset: int, nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
) -> onnx.NodeProto:
    sizes = [v.shape[axis] for _, v in members]
    outputs = [name for name, _ in members]
    if opset < 13:
        return helper.make_node("Split", [f"{stem}/voted"], outputs, axis=axis, split=sizes)
    _vote(f"{stem}/sizes", np.array(sizes, np.int64), f"{stem}/sizes/voted", nodes, tensors)
    return helper.make_node("Split", [f"{stem}/voted", f"{stem}/sizes/voted"], outputs, axis=axis)


def _vote(
    stem: str, values: Array, out: str, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]
) -> None:
    copies = [f"{stem}/{i}" for i in "abc"]
    tensors += [numpy_helper.from_array(np.asarray(values, order="C"), c) for c in copies]
    nodes.append(helper.make_node("Equal", copies[:2], [f"{stem}/same"]))
    nodes.append(helper.make_node("Where", [f"{stem}/same", copies[0], copies[2]], [out]))
