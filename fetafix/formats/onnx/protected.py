"""Which weights of an ONNX graph are read through a protection: told from the graph itself, whoever wrote it.

Constants are recognised through whatever makes them: single initializers, votes among three copies, parts of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from fetafix.ir import Array
from fetafix.storage.stored_form import Form, largest, read

METADATA = "fetafix.harden"
_COMPARE = {"LessOrEqual", "Less"}


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A weight that is made of a stored tensor. dtype: of what is stored; voted: whether all its constants are."""

    name: str
    stored: onnx.TensorProto
    form: Form
    scheme: str
    voted: bool
    back: int
    chain: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is stored."""
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.stored.data_type))

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's."""
        return tuple(self.stored.dims)

    def codes(self, folder: Path) -> Array:
        """What is stored; `folder`: the model's."""
        return numpy_helper.to_array(self.stored, str(folder))

    def values(self, folder: Path) -> Array:
        """What is read, in the weight's own dtype."""
        found = read(self.codes(folder), self.form)
        return found.astype(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.back)))


def recognise(model: onnx.ModelProto, folder: Path) -> list[Reading]:
    """The protected weights, in the order of the graph. folder: where external data lie; weights are not read."""
    graph = _Constants(model.graph, folder)
    found = (graph.reading(o) for n in model.graph.node if n.op_type in ("Where", "Mul", "Cast") for o in n.output)
    readings = [r for r in found if r is not None]
    inner = {name for r in readings for name in r.chain}
    return [r for r in readings if r.name not in inner]


def voted(model: onnx.ModelProto, folder: Path) -> dict[str, Array]:
    """The model's own constants (biases, scales of codes) that are read by majority: name → value."""
    graph, found = _Constants(model.graph, folder), {}
    helps = {n.input[1] for n in model.graph.node if n.op_type in _COMPARE}
    helps |= {n.input[1] for n in model.graph.node if n.op_type == "Mul" and n.input[1].endswith("/factor")}
    read = {i for n in model.graph.node for i in n.input if n.op_type not in ("Split", "Where")} - helps
    for node in model.graph.node:
        for name in node.output if node.op_type in ("Where", "Split", "Cast") else ():
            known = graph.value(name) if name in read else None
            if known is not None and known[1] and not name.startswith("fetafix/"):
                found[name] = known[0]
    return found


def mark(model: onnx.ModelProto) -> str:
    """What the metadata say of a protection, "" where they say nothing."""
    return next((p.value for p in model.metadata_props if p.key == METADATA), "")


class _Constants:
    def __init__(self, graph: onnx.GraphProto, folder: Path) -> None:
        self._tensors: Mapping[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self._makers = {o: n for n in graph.node for o in n.output if o}
        self._folder = folder
        self._known: dict[str, tuple[Array, bool] | None] = {}

    def reading(self, name: str) -> Reading | None:
        """How a tensor is read from a stored one, or None where it is not through a protection."""
        chain: list[str] = []
        current, back = name, onnx.TensorProto.FLOAT
        top = self._makers[name]
        below = self._makers.get(top.input[0]) if top.op_type == "Cast" else None
        if below is not None and below.op_type in ("Where", "Mul"):
            back, current = next(a.i for a in top.attribute if a.name == "to"), top.input[0]
            chain.append(current)
        bound, current = self._guard(current, chain)
        factor, current = self._factor(current, chain)
        current = self._cast(current, chain)
        stored = self._tensors.get(current)
        if stored is None or (bound is None and factor is None) or len(stored.dims) < 2:
            return None
        voted = all(c[1] for c in (bound, factor) if c is not None)
        if bound is None and not voted:  # a weight normalisation, for all one can tell
            return None
        form = _form(factor, bound, tuple(stored.dims))
        if form is None:
            return None
        return Reading(name, stored, form, _scheme(stored.data_type, form), voted, back, tuple(chain))

    def _guard(self, name: str, chain: list[str]) -> tuple[tuple[Array, bool] | None, str]:
        node = self._makers.get(name)
        if node is None or node.op_type != "Where":
            return None, name
        within = self._makers.get(node.input[0])
        size = self._makers.get(within.input[0]) if within is not None and within.op_type in _COMPARE else None
        if within is None or size is None or size.op_type != "Abs" or size.input[0] != node.input[1]:
            return None, name
        limit, zero = self.value(within.input[1]), self.value(node.input[2])
        if limit is None or zero is None or zero[0].any():
            return None, name
        if within.op_type == "Less":
            limit = np.nextafter(limit[0], np.float32(-np.inf)), limit[1]
        chain += [node.input[0], within.input[0], node.input[1]]
        return limit, node.input[1]

    def _factor(self, name: str, chain: list[str]) -> tuple[tuple[Array, bool] | None, str]:
        node = self._makers.get(name)
        if node is None or node.op_type != "Mul":
            return None, name
        for one, other in (node.input, list(node.input)[::-1]):
            found = self.value(other)
            if found is not None and found[0].dtype == np.float32 and max(found[0].shape, default=1) >= found[0].size:
                chain.append(one)
                return found, one
        return None, name

    def _cast(self, name: str, chain: list[str]) -> str:
        node = self._makers.get(name)
        if node is None or node.op_type != "Cast":
            return name
        chain.append(node.input[0])
        return str(node.input[0])

    def value(self, name: str) -> tuple[Array, bool] | None:
        """A constant and whether it is voted on; None for what is none, or too large for one."""
        if name not in self._known:
            self._known[name] = self._evaluate(name)
        return self._known[name]

    def _evaluate(self, name: str) -> tuple[Array, bool] | None:
        if name in self._tensors:
            tensor = self._tensors[name]
            return (numpy_helper.to_array(tensor, str(self._folder)), False) if _narrow(tensor) else None
        node = self._makers.get(name)
        if node is None:
            return None
        if node.op_type == "ConstantOfShape" and not node.attribute:
            return np.zeros((), np.float32), True
        if node.op_type == "Where":
            return self._vote(node)
        if node.op_type == "Split":
            return self._part(node, name)
        if node.op_type == "Cast" and (inner := self.value(node.input[0])) is not None:
            return inner[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)), inner[1]
        if node.op_type == "Constant" and node.attribute[0].name == "value" and _narrow(node.attribute[0].t):
            return numpy_helper.to_array(node.attribute[0].t), False
        return None

    def _vote(self, node: onnx.NodeProto) -> tuple[Array, bool] | None:
        same = self._makers.get(node.input[0])
        if same is None or same.op_type != "Equal" or node.input[1] not in same.input:
            return None
        copies = [self.value(n) for n in (*same.input, node.input[2])]
        if any(c is None for c in copies):
            return None
        a, b, c = (c[0] for c in copies if c is not None)
        with np.errstate(invalid="ignore"):
            return np.where(a == b, a, c), len({*same.input, node.input[2]}) == 3

    def _part(self, node: onnx.NodeProto, name: str) -> tuple[Array, bool] | None:
        whole = self.value(node.input[0])
        sizes = self.value(node.input[1]) if len(node.input) > 1 else None
        attributes = {a.name: a for a in node.attribute}
        lengths = list(attributes["split"].ints) if "split" in attributes else [] if sizes is None else [*sizes[0]]
        if whole is None or not lengths:
            return None
        parts = np.split(whole[0], np.cumsum(lengths)[:-1], attributes["axis"].i if "axis" in attributes else 0)
        return parts[list(node.output).index(name)], whole[1] and (sizes is None or sizes[1])


def _narrow(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor may be a constant of a protection: it varies along one axis at most."""
    dims = [d for d in tensor.dims if d != 1]
    return len(dims) <= 1 and tensor.data_type != onnx.TensorProto.STRING


def _form(factor: tuple[Array, bool] | None, bound: tuple[Array, bool] | None, shape: tuple[int, ...]) -> Form | None:
    """Constants as () or (channels,) along one common axis; None where they do not fit."""
    axes: set[int] = set()
    flat: list[Array | None] = []
    for constant in (factor, bound):
        if constant is None:
            flat.append(None)
            continue
        laid = constant[0].reshape((1,) * (len(shape) - constant[0].ndim) + constant[0].shape)
        axes |= {i for i, n in enumerate(laid.shape) if n != 1}
        if laid.ndim != len(shape) or any(n not in (1, shape[i]) for i, n in enumerate(laid.shape)):
            return None
        flat.append(laid.reshape(-1) if laid.size > 1 else laid.reshape(()))
    if len(axes) > 1:
        return None
    return Form(flat[0], flat[1], next(iter(axes), None))


def _scheme(stored: int, form: Form) -> str:
    if form.bound is None:
        return "scale"
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(stored))
    if dtype.kind != "i":
        limit = np.float32(largest(dtype))
        factor = np.float32(1) if form.factor is None else form.factor
        if np.array_equal(np.broadcast_to(limit * factor, form.bound.shape), form.bound):
            return "ceiling"
    return "guard" if form.factor is None or dtype.kind == "i" else "scale and guard"


def count(path: Path) -> int:
    """How many weights, scales and zero points of a file are read through a protection."""
    model = onnx.load(str(path), load_external_data=False)
    return len(recognise(model, path.parent)) + len(voted(model, path.parent))


def constants(path: Path) -> dict[str, Array]:
    """The scales and zero points of a file that are read by majority."""
    return voted(onnx.load(str(path), load_external_data=False), path.parent)


def readings(path: Path) -> list[Reading]:
    """The protected weights of a file."""
    return recognise(onnx.load(str(path), load_external_data=False), path.parent)
