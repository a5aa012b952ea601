"""A TFLite model under repair: constants, activations and operators can be set, added and exchanged.

What is added is appended, so that indices of what was there stay. A tensor or a buffer that serves more than the one
operator concerned is never changed: that operator gets its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite import schema as schemas
from fetafix.formats.tflite.options import CLASSES, version
from fetafix.ir import Array

Quantised = tuple[Array, Array, int]


_EFFECTS = {"VAR_HANDLE", "ASSIGN_VARIABLE", "READ_VARIABLE", "CALL_ONCE"}


class Program:
    """A ModelT and its main subgraph. `model` is changed in place.

    actual: shapes as they ran. entries, exits: input and output tensors in the order of the ONNX view's.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]
        self.tensors: list[Any] = self.graph.tensors
        self.original = len(self.tensors)
        self.old_operators = list(self.graph.operators)
        self.dynamic = any(
            t.shapeSignature is not None and len(t.shapeSignature) and t.shapeSignature[0] == -1
            for t in (self.tensors[i] for i in self.graph.inputs)
        )
        self.fields: dict[int, dict[str, Any]] = {}
        self._reals: dict[int, Array] = {}
        self._pending: dict[int, Array] = {}
        self.actual: dict[int, tuple[int, ...]] = {}
        self.entries, self.exits = [int(t) for t in self.graph.inputs], [int(t) for t in self.graph.outputs]
        self._codes = len(model.operatorCodes)
        needed = self.needed()
        self._idle = {id(o) for o in self.old_operators if id(o) not in needed}

    # reading --------------------------------------------------------------------------------------------------------
    def opcode(self, operator: Any) -> str:
        """The builtin operator's name."""
        return schemas.opcode(self.model, operator)

    def producer(self, tensor: int) -> Any:
        """The operator that makes a tensor, or None."""
        return next((o for o in self.graph.operators if tensor in o.outputs), None)

    def users(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [o for o in self.graph.operators if o.inputs is not None and tensor in o.inputs]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape: as it ran, where that is known (files declare 1 for what is open), else as declared."""
        return self.actual.get(tensor) or schemas.shape_of(self.tensors[tensor])

    def stored(self, tensor: int) -> Array | None:
        """A constant as it is stored; None for activations."""
        if tensor < 0:
            return None
        pending = self._pending.get(id(self.tensors[tensor]))
        return pending if pending is not None else schemas.stored(self.model, self.tensors[tensor])

    def needed(self) -> set[int]:
        """Identities of the operators that the outputs, or variables, depend on."""
        wanted, needed = {int(t) for t in self.graph.outputs}, set()
        variables = {i for i, t in enumerate(self.tensors) if t.isVariable}
        for operator in reversed(self.graph.operators):
            made, read = ({int(t) for t in ([] if ts is None else ts)} for ts in (operator.outputs, operator.inputs))
            if wanted & made or variables & read or self.opcode(operator) in _EFFECTS:
                needed.add(id(operator))
                wanted |= read
        return needed

    def alive(self) -> set[int]:
        """Operators to keep: those needed, and those that were of no use to begin with."""
        return self.needed() | self._idle

    def quantisation(self, tensor: int) -> Quantised | None:
        """Scales, zero points and axis of a tensor of codes, or None."""
        dtype = schemas.dtype_of(self.tensors[tensor])
        if dtype is None or dtype.kind == "f":
            return None
        return schemas.quantisation(self.tensors[tensor])

    def origin(self, tensor: int) -> int:
        """The constant behind a DEQUANTIZE (or CAST) operator; otherwise the tensor itself."""
        made = self.producer(tensor)
        if made is not None and self.opcode(made) in ("DEQUANTIZE", "CAST") and self.stored(made.inputs[0]) is not None:
            return int(made.inputs[0])
        return tensor

    def constant(self, tensor: int) -> Array | None:
        """The real numbers of a constant, those behind a DEQUANTIZE included; None for activations."""
        source = self.origin(tensor)
        if source not in self._reals:
            codes = self.stored(source)
            if codes is None:
                return None
            self._reals[source] = schemas.real(codes, self.quantisation(source))
        return self._reals[source]

    # changing -------------------------------------------------------------------------------------------------------
    def own(self, operator: Any, slot: int) -> int:
        """The constant in an operator's slot, made its own first where others use it too."""
        tensor = int(operator.inputs[slot])
        source = self.origin(tensor)
        if source != tensor:
            alone = len(self.users(tensor)) == 1 and len(self.users(source)) == 1
            if not alone:
                shared = self.producer(tensor)
                twin, fresh = copy.deepcopy(shared), self._copy(source)
                out = self._copy(tensor)
                twin.inputs, twin.outputs = np.array([fresh], np.int32), np.array([out], np.int32)
                self.graph.operators.insert(self.graph.operators.index(shared) + 1, twin)
                operator.inputs = _replaced(operator.inputs, slot, out)
                source = fresh
        elif len(self.users(source)) > 1 or list(operator.inputs).count(source) > 1 or source in self.graph.outputs:
            source = self._copy(source)
            operator.inputs = _replaced(operator.inputs, slot, source)
        return source

    def _copy(self, tensor: int) -> int:
        pending = self._pending.get(id(self.tensors[tensor]))
        self.tensors.append(copy.deepcopy(self.tensors[tensor]))
        if pending is not None:
            self._pending[id(self.tensors[-1])] = pending
        return len(self.tensors) - 1

    def store(self, tensor: int, codes: Array) -> None:
        """Put codes (or plain numbers, of the tensor's dtype) into a constant; its shape becomes theirs."""
        record = self.tensors[tensor]
        codes = np.ascontiguousarray(codes, dtype=schemas.dtype_of(record))
        if schemas.shape_of(record) != codes.shape:
            record.shape = np.array(codes.shape, np.int32)
            record.shapeSignature = None
        self._reals.pop(tensor, None)
        if tensor >= self.original:
            self._pending[id(record)] = codes
        else:
            self._commit(record, codes)

    def commit(self) -> None:
        """Give new constants that are used their buffers, and drop operator codes that nothing needs after all."""
        for tensor in self.tensors[self.original :]:
            if id(tensor) in self._pending:
                self._commit(tensor, self._pending[id(tensor)])
        used = {o.opcodeIndex for g in self.model.subgraphs for o in g.operators}
        kept = [i for i in range(len(self.model.operatorCodes)) if i < self._codes or i in used]
        for operator in self.graph.operators:
            operator.opcodeIndex = kept.index(operator.opcodeIndex)
        self.model.operatorCodes = [self.model.operatorCodes[i] for i in kept]

    def _commit(self, record: Any, codes: Array) -> None:
        data = np.frombuffer(codes.tobytes(), np.uint8)
        sharers = [t for g in self.model.subgraphs for t in g.tensors if t.buffer == record.buffer and t is not record]
        if sharers or record.buffer == 0:
            record.buffer = self._free_buffer()
        self.model.buffers[record.buffer].data = data

    def set_quantisation(self, tensor: int, scale: Array, zero: Array, axis: int) -> None:
        """Give a tensor other scales (float32), zero points (int64) and axis."""
        q = self.tensors[tensor].quantization
        if q is None:
            q = self.tensors[tensor].quantization = schemas.schema().QuantizationParametersT()
        q.scale = np.atleast_1d(np.asarray(scale, np.float32))
        q.zeroPoint = np.atleast_1d(np.asarray(zero, np.int64))
        q.quantizedDimension = axis
        self._reals.pop(tensor, None)

    def _free_buffer(self) -> int:
        """A buffer for new data: an empty one that only activations name, else a new one at the end."""
        metadata = {m.buffer for m in self.model.metadata or []}
        empty = self.model.buffers[0].data is None or not len(self.model.buffers[0].data)
        for i, buffer in enumerate(self.model.buffers):
            if not i or not empty or i in metadata or (buffer.data is not None and len(buffer.data)) or buffer.offset:
                continue
            for graph in self.model.subgraphs:
                for tensor in graph.tensors:
                    tensor.buffer = 0 if tensor.buffer == i else tensor.buffer
            return i
        self.model.buffers.append(schemas.schema().BufferT())
        return len(self.model.buffers) - 1

    # adding ---------------------------------------------------------------------------------------------------------
    def add_constant(self, array: Array, name: str, quantised: Quantised | None = None) -> int:
        """A constant tensor with these values: one that is there already, else a new one."""
        for i, tensor in enumerate(self.tensors):
            if schemas.shape_of(tensor) != array.shape:
                continue
            if quantised is None and array.dtype == np.float32 and self.quantisation(i) is None:
                held = self._plain(i, array)
            else:
                held = self.stored(i) if _same_quantisation(self.quantisation(i), quantised) else None
            if held is not None and held.dtype == array.dtype and np.array_equal(held, array):
                return i
        made = self._new(array.shape, array.dtype, name)
        if quantised is not None:
            self.set_quantisation(made, *quantised)
        self.store(made, array)
        return made

    def _plain(self, tensor: int, like: Array) -> Array | None:
        """The float values of a constant, also of the output of a DEQUANTIZE."""
        record = self.tensors[tensor]
        return self.constant(tensor) if schemas.dtype_of(record) == like.dtype else None

    def add_activation(self, shape: Sequence[int], dtype: np.dtype[Any], name: str, quantised: Quantised | None) -> int:
        """A tensor that an operator will make."""
        made = self._new(shape, dtype, name)
        if quantised is not None:
            self.set_quantisation(made, *quantised)
        if self.dynamic and len(shape) > 1 and shape[0] == 1:
            self.tensors[made].shapeSignature = np.array([-1, *shape[1:]], np.int32)
        return made

    def _new(self, shape: Sequence[int], dtype: np.dtype[Any], name: str) -> int:
        made = schemas.schema().TensorT()
        try:
            made.type = schemas.type_number(dtype)
        except KeyError:
            raise Unsupported(f"TFLite has no tensors of {dtype}") from None
        made.shape = np.array(shape, np.int32)
        made.hasRank = True
        made.name = name.encode()
        self.tensors.append(made)
        return len(self.tensors) - 1

    def add_operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Mapping[str, Any]) -> Any:
        """A builtin operator, behind all others (`sort` puts it where it belongs)."""
        made = schemas.schema().OperatorT()
        first = self.tensors[inputs[0]]
        quantised = schemas.dtype_of(first) is not None and schemas.dtype_of(first).itemsize == 1  # type: ignore[union-attr]
        made.opcodeIndex = schemas.opcode_index(self.model, name, version(name, options, quantised, len(inputs)))
        made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if name in CLASSES:
            kind = CLASSES[name]
            made.builtinOptionsType = getattr(schemas.schema().BuiltinOptions, kind)
            made.builtinOptions = getattr(schemas.schema(), kind + "T")()
            for field, value in options.items():
                setattr(made.builtinOptions, field, value)
        self.fields[id(made)] = dict(options)
        self.graph.operators.append(made)
        return made


def _replaced(values: Any, place: int, new: int) -> Array:
    array: Array = np.array(values, np.int32)
    array[place] = new
    return array


def _same_quantisation(a: Quantised | None, b: Quantised | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and (a[2] == b[2] or a[0].size == 1)
    )
