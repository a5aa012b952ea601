"""Read a TFLite file's structure into records. No runtime is needed.

Every index and offset is checked (`flatbuffer`): what `read` returns can be trusted not to point anywhere else
than into the file. Field numbers are those of TensorFlow's schema.fbs, version 3.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.tflite import names
from fetafix.formats.tflite.flatbuffer import Broken, Reader, Table
from fetafix.formats.tflite.records import Operator, Quantisation, Signature, Span, SubGraph, Tensor, TfliteFile

MAGIC = b"TFL3"
VERSION = 3


def is_tflite(path: Path) -> bool:
    """Whether the file carries TFLite's identifier."""
    try:
        with path.open("rb") as stream:
            return stream.read(8)[4:] == MAGIC
    except OSError:
        return False


def read(path: Path) -> TfliteFile:
    """The file's structure. Raises UnreadableModel with what was expected and found where it is damaged."""
    try:
        with path.open("rb") as stream:
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise UnreadableModel(f"{path}: cannot be read: {error}") from error
    return parse(data, path)


def parse(data: bytes | memoryview, path: Path) -> TfliteFile:
    """The structure of a file's bytes; `path` is for messages. Raises UnreadableModel."""
    try:
        return _model(Reader(data), path)
    except Broken as error:
        raise UnreadableModel(
            f"{path}: a TensorFlow Lite file that is cut off or damaged: {error}; copy or convert it again"
        ) from error


def _model(reader: Reader, path: Path) -> TfliteFile:
    if bytes(reader.data[4:8]) != MAGIC:
        raise Broken(f"expected the identifier {MAGIC!r} at byte 4, found {bytes(reader.data[4:8])!r}")
    root = reader.root()
    version = root.integer(0, "I")
    if version != VERSION:
        raise Broken(f"expected schema version {VERSION}, found {version}")
    codes = [_code(t) for t in root.tables(1, "operator code")]
    buffers = tuple(_buffer(t) for t in root.tables(4, "buffer"))
    graphs = tuple(_subgraph(t, i, codes, len(buffers)) for i, t in enumerate(root.tables(2, "subgraph")))
    if not graphs:
        raise Broken("expected at least one subgraph, found none")
    _check_apart(root, path)
    signatures = tuple(_signature(t, graphs) for t in root.tables(7, "signature"))
    notes = list(root.tables(6, "metadata"))
    metadata = {t.text(0): _within(t.integer(1, "I"), len(buffers), f"buffer of {t.what}") for t in notes}
    return TfliteFile(path, reader.data, root.text(3, "description"), graphs, buffers, signatures, metadata)


def _check_apart(root: Table, path: Path) -> None:
    """Weights in files of their own must be there, and long enough."""
    groups = [t.text(0, "name") for t in root.tables(8, "group of external buffers")]
    for table in root.tables(9, "external buffer"):
        name = groups[_within(table.integer(1, "I"), len(groups), f"group of {table.what}")]
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Broken(f"{table.what}: expected a file in the model's folder, found {name!r}")
        file, need = path.parent / name, table.integer(2, "Q") + table.integer(3, "Q")
        size = file.stat().st_size if file.is_file() else 0
        if size < need:
            found = f"it ends after {size:,}" if file.is_file() else "there is no such file"
            raise Broken(f"{table.what}: expected {need:,} bytes in {file}, but {found}")


def _code(table: Table) -> tuple[str, bool, int]:
    """(name, whether it is custom, version)."""
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    name = names.operator(code)
    if name == "CUSTOM":
        return table.text(1, "the custom code") or "(a custom operator without a name)", True, table.integer(2, "i", 1)
    return name, False, table.integer(2, "i", 1)


def _buffer(table: Table) -> Span:
    """Its bytes stand in the flatbuffer, or behind it at `offset` (1 is the mark of an empty one)."""
    offset, size = table.integer(1, "Q"), table.integer(2, "Q")
    if offset > 1:
        table.reader.check(offset, size, f"the data of {table.what}")
        return Span(offset, size, True)
    return Span(*table.span(0, "data"))


def _subgraph(table: Table, index: int, codes: Sequence[tuple[str, bool, int]], buffers: int) -> SubGraph:
    tensors = tuple(_tensor(t, i, buffers) for i, t in enumerate(table.tables(0, "tensor")))
    operators = tuple(_operator(t, i, codes, len(tensors)) for i, t in enumerate(table.tables(3, "operator")))
    inputs = _indices(table, 1, len(tensors), "inputs")
    outputs = _indices(table, 2, len(tensors), "outputs")
    return SubGraph(index, table.text(4, "name"), tensors, operators, inputs, outputs)


def _indices(table: Table, slot: int, count: int, name: str, optional: bool = False) -> tuple[int, ...]:
    found = table.numbers(slot, "<i4", name)
    indices = () if found is None else tuple(found.tolist())
    least = -1 if optional else 0
    wrong = [i for i in indices if not least <= i < count]
    if wrong:
        raise Broken(f"{name} of {table.what}: expected indices of its {count} tensors, found {wrong[0]}")
    return indices


def _within(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise Broken(f"{what}: expected an index below {count}, found {index}")
    return index


def _tensor(table: Table, index: int, buffers: int) -> Tensor:
    shape, signature = table.numbers(0, "<i4", "shape"), table.numbers(7, "<i4", "shape signature")
    dims = () if shape is None else tuple(shape.tolist())
    if any(d < 0 for d in dims):
        raise Broken(f"shape of {table.what}: expected sizes, found {list(dims)}")
    open_dims = dims if signature is None or len(signature) != len(dims) else tuple(signature.tolist())
    quantisation = table.table(4, f"the quantisation of {table.what}")
    return Tensor(
        index, table.text(3, "name"), names.dtype(table.integer(1, "b")), dims, open_dims,
        _within(table.integer(2, "I"), buffers, f"buffer of {table.what}"),
        _quantisation(quantisation, dims) if quantisation is not None else None,
        bool(table.integer(5, "B")), bool(table.has(6)),
    )


def _quantisation(table: Table, shape: Sequence[int]) -> Quantisation | None:
    """None where there are only the ranges that a training left behind."""
    scale, zero = table.numbers(2, "<f4", "scale"), table.numbers(3, "<i8", "zero point")
    if scale is None or not scale.size:
        return None
    axis = table.integer(6, "i")
    zero = np.zeros(scale.size, np.int64) if zero is None or not zero.size else zero
    if zero.size == 1 and scale.size > 1:
        zero = np.repeat(zero, scale.size)
    if zero.size != scale.size:
        raise Broken(f"{table.what}: expected as many zero points as scales ({scale.size}), found {zero.size}")
    if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        where = f"each index of axis {axis} of {list(shape)}"
        raise Broken(f"{table.what}: expected a scale for {where}, found {scale.size}")
    return Quantisation(scale, zero, axis)


def _operator(table: Table, index: int, codes: Sequence[tuple[str, bool, int]], tensors: int) -> Operator:
    op, custom, version = codes[_within(table.integer(0, "I"), len(codes), f"operator code of {table.what}")]
    kind = table.integer(3, "B")
    table.table(4, f"the options of {table.what}")
    table.table(12, f"the second options of {table.what}")
    table.span(5, "custom options")
    what = f"{table.what} ({op})"
    inputs, outputs = _operands(table, 1, tensors, "inputs", what), _operands(table, 2, tensors, "outputs", what)
    return Operator(index, op, custom, inputs, outputs, version, names.options(kind), table.at)


def _operands(table: Table, slot: int, tensors: int, name: str, what: str) -> tuple[int, ...]:
    table.what = what
    return _indices(table, slot, tensors, name, optional=True)


def _signature(table: Table, graphs: Sequence[SubGraph]) -> Signature:
    graph = graphs[_within(table.integer(4, "I"), len(graphs), f"subgraph of {table.what}")]
    maps = []
    for slot, name in ((0, "input"), (1, "output")):
        maps.append({
            t.text(0, "name"): _within(t.integer(1, "I"), len(graph.tensors), f"tensor of {t.what} of {table.what}")
            for t in table.tables(slot, name)
        })  # fmt: skip
    return Signature(table.text(2, "key"), graph.index, *maps)
