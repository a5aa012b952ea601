"""Save an ONNX model whose weights may lie in files of their own, tensor by tensor.

Such weights are copied from file to file and never held all at once. They go into one new file, in the order of their
old places and at offsets with the alignment that the old ones had. A model that would exceed protobuf's 2 GB is split
the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import numpy_helper

from fetafix.errors import EditError

PROTOBUF_LIMIT = (1 << 31) - (1 << 20)
KEEP_INLINE_BELOW = 1024
_LARGEST_ALIGNMENT = 1 << 16
_BLOCK = 1 << 24


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model: initializers and attributes, in bodies and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _of_graph(attribute.g)
            for body in attribute.graphs:
                yield from _of_graph(body)


def is_apart(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def place(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """File name, offset and length (−1: to the end) of a tensor's external data."""
    entries = {e.key: e.value for e in tensor.external_data}
    return entries.get("location", ""), int(entries.get("offset") or 0), int(entries.get("length") or -1)


def locations(model: onnx.ModelProto) -> list[str]:
    """Names of the files that hold weights, sorted."""
    return sorted({place(t)[0] for t in tensors(model) if is_apart(t)})


def save(model: onnx.ModelProto, old_folder: Path, file: Path, data_name: str, apart: Collection[str]) -> bool:
    """Write a model to `file`; True where a second file `data_name` was written beside it.

    External data are read from `old_folder`; initializers named in `apart` are stored externally too. Changes `model`.
    Raises OSError, and EditError where the model does not even fit without its weights.
    """
    moved = [t for t in tensors(model) if is_apart(t)]
    alignment = _alignment(moved)
    moved.sort(key=lambda t: place(t)[:2])
    split = model.ByteSize() > PROTOBUF_LIMIT
    moved += [t for t in model.graph.initializer if not is_apart(t) and (t.name in apart or (split and _large(t)))]
    if moved:
        with (file.parent / data_name).open("wb") as data:
            for tensor in moved:
                _move(tensor, old_folder, data, data_name, alignment)
    try:
        content = model.SerializeToString()
    except ValueError as error:
        raise EditError(f"{file.name}: the model exceeds protobuf's 2 GB even without its weights") from error
    file.write_bytes(content)
    return bool(moved)


def _large(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type != onnx.TensorProto.STRING and tensor.ByteSize() >= KEEP_INLINE_BELOW


def _alignment(moved: Sequence[onnx.TensorProto]) -> int:
    """The power of two that divides all offsets; 4096, a page, where they do not tell."""
    offsets = 0
    for tensor in moved:
        offsets |= place(tensor)[1]
    return min(offsets & -offsets, _LARGEST_ALIGNMENT) if offsets else 4096


def _move(tensor: onnx.TensorProto, old_folder: Path, data: BinaryIO, data_name: str, alignment: int) -> None:
    """Append a tensor's data to the new file and let the tensor point there."""
    start = -(-data.tell() // alignment) * alignment
    data.write(bytes(start - data.tell()))
    if is_apart(tensor):
        location, offset, length = place(tensor)
        _copy(old_folder / location, offset, length, data)
    else:
        raw = tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()
        data.write(raw)
    kept = [(e.key, e.value) for e in tensor.external_data if e.key not in ("location", "offset", "length", "basepath")]
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(field)
    entries = [("location", data_name), ("offset", str(start)), ("length", str(data.tell() - start)), *kept]
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    tensor.data_location = onnx.TensorProto.EXTERNAL


def _copy(source: Path, offset: int, length: int, data: BinaryIO) -> None:
    """Copy `length` bytes, or up to the end, in blocks."""
    with source.open("rb") as old:
        old.seek(offset)
        left = length if length >= 0 else source.stat().st_size - offset
        while left > 0:
            block = old.read(min(left, _BLOCK))
            if not block:
                raise EditError(f"{source}: the file ends before the weights that the model expects in it")
            data.write(block)
            left -= len(block)
