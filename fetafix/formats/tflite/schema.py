"""TFLite files as objects of the schema's own classes: parsed, with the names of operators and types."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fetafix.ir import Array

_DTYPES = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "FLOAT64": np.float64, "INT8": np.int8, "UINT8": np.uint8,
    "INT16": np.int16, "UINT16": np.uint16, "INT32": np.int32, "UINT32": np.uint32, "INT64": np.int64,
    "UINT64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip
_FIRST_BUILTIN_BEYOND_BYTE = 127


def schema() -> Any:
    """The generated classes of the TFLite schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def parse(data: bytes | bytearray) -> Any:
    """The whole file as a ModelT. Arrays in it are views of `data`."""
    return schema().ModelT.InitFromPackedBuf(data, 0)


@cache
def _names(enum: str) -> dict[int, str]:
    return {v: k for k, v in vars(getattr(schema(), enum)).items() if isinstance(v, int)}


def opcode(model: Any, operator: Any) -> str:
    """The builtin operator's name, such as "CONV_2D"; "CUSTOM" for others."""
    code = model.operatorCodes[operator.opcodeIndex]
    return _names("BuiltinOperator").get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")


def opcode_index(model: Any, name: str, version: int) -> int:
    """The place of an operator code in the model's table, added where it lacks or is older than `version`."""
    number = getattr(schema().BuiltinOperator, name)
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version >= version:
            return i
    made = schema().OperatorCodeT()
    made.builtinCode, made.version = number, version
    made.deprecatedBuiltinCode = min(number, _FIRST_BUILTIN_BEYOND_BYTE)
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1


def dtype_of(tensor: Any) -> np.dtype[Any] | None:
    """The numpy dtype that a tensor is stored in; None for strings, packed 4-bit and other types without one."""
    found = _DTYPES.get(_names("TensorType").get(tensor.type, ""))
    return None if found is None else np.dtype(found)


def type_number(dtype: np.dtype[Any]) -> int:
    """The schema's number of a numpy dtype. Raises KeyError where TFLite has none."""
    name = {np.dtype(v): k for k, v in _DTYPES.items()}[np.dtype(dtype)]
    return int(getattr(schema().TensorType, name))


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The declared shape; () for scalars and where none is given."""
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def stored(model: Any, tensor: Any) -> Array | None:
    """The values in a constant tensor's buffer, in its own encoding; None for activations and odd types."""
    data = model.buffers[tensor.buffer].data if tensor.buffer < len(model.buffers) else None
    dtype = dtype_of(tensor)
    if data is None or not len(data) or dtype is None or tensor.sparsity is not None:
        return None
    array: Array = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype)
    shape = shape_of(tensor)
    return array.reshape(shape) if array.size == int(np.prod(shape, dtype=np.int64)) else None


def quantisation(tensor: Any) -> tuple[Array, Array, int] | None:
    """(scales float32, zero points int64, axis) of a quantised tensor; None where it holds plain numbers."""
    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return None
    scale = np.asarray(q.scale, np.float32)
    zero = np.zeros(scale.size, np.int64) if q.zeroPoint is None or not len(q.zeroPoint) else np.asarray(q.zeroPoint)
    zero = np.broadcast_to(zero.astype(np.int64), scale.shape)
    return scale, zero, int(q.quantizedDimension)


def along(values: Array, rank: int, axis: int) -> Array:
    """Scales or zero points shaped so that they broadcast over a tensor."""
    if values.size == 1 or rank == 0:
        return values.reshape((1,) * rank) if values.size == 1 else values
    return values.reshape([values.size if i == axis else 1 for i in range(rank)])


def real(codes: Array, quantised: tuple[Array, Array, int] | None) -> Array:
    """The real numbers that a tensor's codes stand for, float32; the codes themselves where it is not quantised."""
    if quantised is None or codes.dtype.kind == "f":
        return codes.astype(np.float32) if codes.dtype == np.float16 else codes
    scale, zero, axis = quantised
    shifted = codes.astype(np.float64) - along(zero, codes.ndim, axis)
    return np.asarray(shifted * along(scale, codes.ndim, axis), np.float32)
