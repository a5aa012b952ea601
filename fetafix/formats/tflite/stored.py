"""Where a TFLite file holds its tensors: the buffers of its flatbuffer, or behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fetafix.formats.tflite import names
from fetafix.formats.tflite.file import read
from fetafix.formats.tflite.records import Operator, SubGraph, Tensor, TfliteFile
from fetafix.storage.holding import Held

# operator → the slots of its weights, and the axis of the output channels there
_WEIGHTS = {"CONV_2D": {1: 0}, "CONV_3D": {1: 4}, "DEPTHWISE_CONV_2D": {1: 3}, "FULLY_CONNECTED": {1: 0},
            "TRANSPOSE_CONV": {1: 0}, "CONV_3D_TRANSPOSE": {1: 3}, "EMBEDDING_LOOKUP": {1: 0}, "GATHER": {0: 0},
            "SVDF": {1: 0, 2: 0}, "LSTM": dict.fromkeys(range(1, 9), 0),
            "UNIDIRECTIONAL_SEQUENCE_LSTM": dict.fromkeys(range(1, 9), 0),
            "BIDIRECTIONAL_SEQUENCE_LSTM": dict.fromkeys([*range(1, 9), *range(18, 26)], 0),
            "RNN": {1: 0, 2: 0}, "UNIDIRECTIONAL_SEQUENCE_RNN": {1: 0, 2: 0}}  # fmt: skip
_PASS = {"DEQUANTIZE", "QUANTIZE", "CAST", "TRANSPOSE", "RESHAPE", "DENSIFY", "MUL"}
_UNSURE = {"TRANSPOSE", "RESHAPE"}


def held(path: Path, format: str) -> list[Held]:
    """Every constant tensor with a buffer; 4-bit, sparse and string ones as bytes."""
    file = read(path)
    found = [_held(path, file, graph, tensor, uses) for graph in file.subgraphs for uses in [_uses(graph)]
             for tensor in graph.tensors if file.buffers[tensor.buffer].size]
    return _named(found)


def _held(path: Path, file: TfliteFile, graph: SubGraph, tensor: Tensor, uses: dict[int, int | None]) -> Held:
    span = file.buffers[tensor.buffer]
    dtype: np.dtype[Any] = np.dtype(names.NUMPY.get(tensor.dtype, "uint8"))
    shape: tuple[int, ...] = tensor.shape
    if span.size != dtype.itemsize * int(np.prod(shape, dtype=np.int64)) or tensor.dtype == "int4":
        dtype, shape = np.dtype("uint8"), (span.size,)
    weight = tensor.index in uses and len(tensor.shape) >= 2 and tensor.dtype not in ("int32", "int64", "bool")
    axis = uses[tensor.index] if weight and len(shape) == len(tensor.shape) else None
    if weight and axis is not None and axis >= len(shape):
        axis = None
    name = tensor.name or f"tensor {tensor.index}"
    return Held(name, "weight" if weight else "constant", dtype, shape, path, ((span.offset, span.size),), axis)


def _named(found: list[Held]) -> list[Held]:
    """Names made unique: TFLite demands none to be."""
    import dataclasses

    seen: dict[str, int] = {}
    result = []
    for h in found:
        seen[h.name] = seen.get(h.name, 0) + 1
        result.append(h if seen[h.name] == 1 else dataclasses.replace(h, name=f"{h.name} #{seen[h.name]}"))
    return result


def _uses(graph: SubGraph) -> dict[int, int | None]:
    """Tensors that are weights → the axis of their output channels."""
    makers: dict[int, Operator] = {o: op for op in graph.operators for o in op.outputs}
    found: dict[int, int | None] = {}
    for op in graph.operators:
        slots = {0: None, 1: None} if op.op == "BATCH_MATMUL" else _WEIGHTS.get(op.op, {})
        pending = [(op.inputs[s], a) for s, a in slots.items() if s < len(op.inputs) and op.inputs[s] >= 0]
        while pending:
            tensor, axis = pending.pop()
            if tensor in found:
                continue
            found[tensor] = axis
            maker = makers.get(tensor)
            if maker is not None and maker.op in _PASS:
                pending += [(i, None if maker.op in _UNSURE else axis) for i in maker.inputs if i >= 0]
    return found
