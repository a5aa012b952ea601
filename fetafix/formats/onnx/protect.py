"""Weights of an ONNX model in a form in which faults in storage do less harm, and which every ONNX runtime reads.

    stored → Cast → Mul(factor) → Abs → LessOrEqual(bound) → Where(·, value, 0) → the weight, under its own name

Constant folding makes the original graph of it at load, at no cost per inference. What is not needed is left out: no
Cast for float32, no Mul without a factor, no comparison without a bound. Weights of float16 and bfloat16 are read in
float32 and cast back, which is exact. Integer weights in front of a DequantizeLinear keep their codes; codes beyond the
largest of their channel become the zero point, and scales and zero points are voted on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fetafix.errors import EditError, UsageError
from fetafix.formats.onnx import store as onnx_store
from fetafix.formats.onnx import stored as onnx_stored
from fetafix.formats.onnx.protected import METADATA, recognise, voted
from fetafix.formats.onnx.voted import PREFIX, Votes
from fetafix.formats.onnx.write import placed
from fetafix.ir import Array
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import Form, formed

OLDEST, RAISED = 11, 13  # Equal takes floats from opset 11 on, Cast bfloat16 from 13 on
_COMPARES = 16  # before, onnxruntime does not fold LessOrEqual; Less of the next number is the same
_VOTED = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_FULL, _LARGE = 127, 1 << 16
_FOLDED = 1 << 30  # bytes: constant_folding.cc of onnxruntime leaves nodes with more output to every inference
_CONSTANTS = {  # operator → slots of constants that it adds, subtracts or normalises by
    "Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,), "LSTM": (3,), "GRU": (3,), "RNN": (3,), "Add": (0, 1),
    "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1), "BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "PRelu": (1,),
}  # fmt: skip
Choose = Callable[[Held, Array], "Plan | str"]


@dataclass(slots=True)
class Protected:
    """What was done. changed: weights that are stored anew; left: (tensor, why not). notes: what else to know.

    voted: constants of the model itself that have three copies now.
    """

    changed: list[str] = field(default_factory=list)
    voted: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def protect(
    path: Path, out: Path, choose: Choose, mark: Mapping[str, Any], oldest: int = OLDEST, constants: bool = False
) -> Protected:
    """Write the model at `path` to `out`, each weight as `choose` plans it (or left, for the reason that it gives).

    choose gets a weight's place and its values, float32. mark: for the metadata, an aid for people. oldest: the opset
    that the plans need at least, 13 for bfloat16. constants: whether biases, statistics and the like are voted on, too.
    Nothing is written where no weight was changed. Raises UsageError
    where the model is protected already or too old to be raised, EditError where the result does not load, OutputError
    where `out` cannot be written.
    """
    model = onnx.load(str(path), load_external_data=False)
    if recognise(model, path.parent) or voted(model, path.parent):
        raise UsageError(f"{path}: its weights are protected already; fetafix harden --restore {path} -o OUT takes the "
                         "protection off")
    with placed(path, out, model) as place:
        scratch = place.folder / "codes"
        with scratch.open("wb") as codes:
            work = _Work(_raised(path, model, oldest), path, codes)
            work.run(choose, constants)
        note = json.dumps({**mark, "tensors": len(work.done.changed)})
        work.model.metadata_props.add(key=METADATA, value=note)
        if work.done.changed or work.done.voted:
            place.save(work.model)
    return work.done


def _raised(path: Path, model: onnx.ModelProto, oldest: int) -> onnx.ModelProto:
    """The model, by the version converter where its opset is too old."""
    if opset_of(model) >= oldest:
        return model
    try:
        if onnx_store.locations(model):
            raise RuntimeError("its weights lie in files of their own")
        return onnx.version_converter.convert_version(model, RAISED)
    except Exception as error:  # whatever the converter stumbles over
        raise UsageError(
            f"{path}: opset {opset_of(model)} lacks what reads protected weights (Equal of floats: opset {OLDEST}, "
            f"Cast of bfloat16: {RAISED}), and onnx.version_converter fails to raise it: {str(error)[:200]}; export it "
            f"with opset {RAISED} or newer, or take --scheme rs or secded, which leave the graph as it is") from error


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


class _Work:
    def __init__(self, model: onnx.ModelProto, path: Path, codes: BinaryIO) -> None:
        self.model, self._path, self._codes = model, path, codes
        self._opset = opset_of(model)
        self._votes = Votes()
        self._nodes: list[onnx.NodeProto] = []
        self.done = Protected()
        if self._opset != opset_of(onnx.load(str(path), load_external_data=False)):
            self.done.notes.append(f"raised to opset {self._opset} by onnx.version_converter")

    def run(self, choose: Choose, constants: bool) -> None:
        graph = self.model.graph
        self._lift_constants(graph)
        tensors = {t.name: t for t in graph.initializer}
        for held in onnx_stored.held(self._path, "onnx"):
            if held.role == "weight" and held.name not in tensors:
                self.done.left.append((held.name, "it lies within a body or function of the graph"))
            elif held.role == "weight":
                self._weight(held, tensors[held.name], choose)
        if constants:
            self._vote_on_constants(graph)
        self._close(graph)

    def _vote_on_constants(self, graph: onnx.GraphProto) -> None:
        """Biases, statistics of normalisations and the like: what has one axis, in float32."""
        read = {n.input[i] for n in graph.node for i in _CONSTANTS.get(n.op_type, ()) if i < len(n.input)}
        outputs = {o.name for o in graph.output}
        for tensor in list(graph.initializer):
            plain = tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1 and 0 < tensor.dims[0] < _LARGE
            if plain and tensor.name in read - outputs - self._votes.kept:
                values = numpy_helper.to_array(tensor, str(self._path.parent))
                if np.isfinite(values).all():  # NaN equals nothing, not even itself
                    self._votes.add(tensor.name, values, 1, 0)
                    graph.initializer.remove(tensor)
                    self.done.voted.append(tensor.name)

    def _lift_constants(self, graph: onnx.GraphProto) -> None:
        """Weights in Constant nodes become initializers; no initializer stays a graph input, which never folds."""
        for node in [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]:
            tensor = node.attribute[0].t
            if len(tensor.dims) >= 2 and tensor.data_type != onnx.TensorProto.STRING:
                graph.initializer.append(tensor)
                graph.initializer[-1].name = node.output[0]
                graph.node.remove(node)
        names = {t.name for t in graph.initializer}
        overridable = [i for i in graph.input if i.name in names]
        for value in overridable:
            graph.input.remove(value)
        if overridable and self.model.ir_version >= 4:
            self.done.notes.append(f"{len(overridable)} weights were inputs with a default; they are constants now")
        self.model.ir_version = max(self.model.ir_version, 4)

    def _weight(self, held: Held, tensor: onnx.TensorProto, choose: Choose) -> None:
        if 4 * held.size > _FOLDED:
            self.done.left.append((held.name, f"it has {held.size:,} values, and ONNX Runtime folds no more than "
                                   f"{_FOLDED >> 20:,} MiB of float32: reading it would cost time in every inference"))
            return
        if not held.floating:
            self._codes_of(held, tensor, choose)
            return
        values = numpy_helper.to_array(tensor, str(self._path.parent)).astype(np.float32)
        plan = choose(held, values)
        if isinstance(plan, str):
            self.done.left.append((held.name, plan))
            return
        stored, form = formed(values, plan)
        if self._chain(held, tensor, stored, form):
            self.done.changed.append(held.name)
        else:
            self.done.left.append((held.name, "its values fill the format already: scaling by 1 changes nothing"))

    def _codes_of(self, held: Held, tensor: onnx.TensorProto, choose: Choose) -> None:
        """A bound of integer codes, whose scale is voted on; codes around another zero than 0 get the vote alone."""
        readers = [n for n in self.model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == held.name]
        tensors = {t.name: t for t in self.model.graph.initializer}
        codes = numpy_helper.to_array(tensor, str(self._path.parent))
        plan: Plan | str = f"its {held.dtype.name} codes are 8 bit or less already, and no DequantizeLinear reads them"
        if readers and held.dtype.name in ("int8", "uint8"):
            plan = choose(held, codes.astype(np.float32))
        if isinstance(plan, str):
            self.done.left.append((held.name, plan))
            return
        constants = [tensors[i] for n in readers for i in n.input[1:] if i in tensors]
        for constant in constants:
            if constant.data_type in _VOTED:
                self._votes.keep(constant)
        centred = all(not numpy_helper.to_array(c).any() for c in constants if c.data_type != onnx.TensorProto.FLOAT)
        others = tuple(i for i in range(codes.ndim) if i != plan.axis) if plan.axis is not None else None
        bound = np.abs(codes.astype(np.float32)).max(axis=others, initial=0.0)
        if centred and held.dtype == np.int8 and (bound < _FULL).any():
            self._chain(held, tensor, codes, Form(None, np.asarray(bound, np.float32), plan.axis))
            self.done.changed.append(held.name)
        else:
            self.done.left.append((held.name, "its codes fill their range, so no bound helps; its scales are voted on"))

    def _chain(self, held: Held, tensor: onnx.TensorProto, stored: Array, form: Form) -> bool:
        """Let nodes make the weight of what is stored; False where nothing has to be done to read it."""
        name, rank, current = held.name, len(held.shape), f"{held.name}/stored"
        original = tensor.data_type
        same = stored.dtype == held.dtype and form.factor is None
        tensor.name = current
        if not same:
            self._restore_in(tensor, stored)
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = []
        if tensor.data_type != onnx.TensorProto.FLOAT:
            steps.append(("Cast", [current], "cast", {"to": onnx.TensorProto.FLOAT}))
            current = f"{name}/cast"
        if form.factor is not None:
            factor = self._votes.add(f"{name}/factor", form.factor, rank, form.axis)
            steps.append(("Mul", [current, factor], "scaled", {}))
            current = f"{name}/scaled"
        if form.bound is not None:
            steps += self._guard(name, current, form, rank)
            current = f"{name}/guarded"
        if original != onnx.TensorProto.FLOAT:
            steps.append(("Cast", [current], "back", {"to": original}))
        for i, (op, inputs, output, attributes) in enumerate(steps):
            made = name if i == len(steps) - 1 else f"{name}/{output}"
            self._nodes.append(helper.make_node(op, inputs, [made], name=f"{PREFIX}{name}/{output}", **attributes))
        if not steps:
            tensor.name = name
        return bool(steps)

    def _guard(
        self, name: str, current: str, form: Form, rank: int
    ) -> list[tuple[str, list[str], str, dict[str, Any]]]:
        """What is not within the bound becomes 0."""
        assert form.bound is not None
        compare, limit = "LessOrEqual", form.bound
        if self._opset < _COMPARES:
            compare, limit = "Less", np.nextafter(form.bound, np.float32(np.inf))
        bound = self._votes.add(f"{name}/bound", limit, rank, form.axis)
        return [("Abs", [current], "size", {}), (compare, [f"{name}/size", bound], "within", {}),
                ("Where", [f"{name}/within", current, self._votes.zero(rank)], "guarded", {})]

    def _restore_in(self, tensor: onnx.TensorProto, stored: Array) -> None:
        """Other bytes for a tensor: in the file, or, where they lay apart, in the scratch file."""
        made = numpy_helper.from_array(np.ascontiguousarray(stored), tensor.name)
        if onnx_store.is_apart(tensor):
            start = self._codes.tell()
            self._codes.write(made.raw_data)
            made.ClearField("raw_data")
            made.data_location = onnx.TensorProto.EXTERNAL
            entries = (("location", self._codes.name), ("offset", start), ("length", self._codes.tell() - start))
            for key, value in entries:
                made.external_data.add(key=key, value=str(value))
        made.doc_string = tensor.doc_string
        tensor.CopyFrom(made)

    def _close(self, graph: onnx.GraphProto) -> None:
        nodes, tensors = self._votes.build(self._opset)
        self._codes.flush()
        for tensor in [t for t in graph.initializer if t.name in self._votes.kept]:
            graph.initializer.remove(tensor)
        self.done.voted = sorted({*self.done.voted, *self._votes.kept})
        taken = {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer}
        made = [o for n in (*nodes, *self._nodes) for o in n.output]
        if clash := next((n for n in made if n in taken), ""):
            raise EditError(f"{self._path}: a tensor is called {clash!r} already; rename it")
        graph.initializer.extend(tensors)
        own = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes, *self._nodes, *own])
