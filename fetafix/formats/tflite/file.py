"""A TFLite file as records: subgraphs, tensors, operators, where the buffers lie. No runtime is needed to read it.

Every index and offset is checked (`flatbuffer`): what `read` returns can be trusted not to point anywhere else
than into the file. Field numbers are those of TensorFlow's schema.fbs, version 3.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.tflite import names
from fetafix.formats.tflite.flatbuffer import Broken, Reader, Table
from fetafix.ir import Array

MAGIC = b"TFL3"
VERSION = 3


@dataclass(frozen=True, eq=False, slots=True)
class Quantisation:
    """real = (code − zero_point) · scale, per tensor (one scale) or along `axis`. scale float32, zero_point int64."""

    scale: Array
    zero_point: Array
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return self.scale.size == 1


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A tensor of a subgraph. signature: the shape with −1 where it may vary (the shape itself where none may)."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    buffer: int
    quantisation: Quantisation | None = None
    variable: bool = False
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator. op: "CONV_2D", or a custom operator's own name. inputs may hold −1 for those left out.

    at: position of its table in the file. subgraphs: those it calls.
    """

    index: int
    op: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options: str = "NONE"
    at: int = 0

    @property
    def flex(self) -> bool:
        """Whether it is an operator of TensorFlow that TFLite only passes on."""
        return self.custom and self.op.startswith("Flex")


@dataclass(frozen=True, eq=False, slots=True)
class SubGraph:
    """Tensors and the operators on them in the order in which they run."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a buffer's bytes lie in the file. apart: they stand behind the flatbuffer (files beyond 2 GB)."""

    offset: int
    size: int
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """A named way to call a subgraph; argument and result names → tensor indices."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """The file's structure; `data` is mapped, `array` reads a constant."""

    path: Path
    data: memoryview
    description: str
    subgraphs: tuple[SubGraph, ...]
    buffers: tuple[Span, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, int] = field(default_factory=dict)

    @property
    def main(self) -> SubGraph:
        """The subgraph that runs where no signature is chosen."""
        return self.subgraphs[0]

    def raw(self, tensor: Tensor) -> bytes | memoryview:
        """A constant tensor's bytes as stored; empty for one that is computed."""
        span = self.buffers[tensor.buffer]
        return self.data[span.offset : span.offset + span.size]

    def array(self, tensor: Tensor) -> Array | None:
        """A constant tensor's stored values (codes where it is quantised), 4 bit ones unpacked; None where computed.

        Raises UnreadableModel where the buffer has another size than the shape asks for.
        """
        span = self.buffers[tensor.buffer]
        if not span.size or tensor.sparse or tensor.dtype not in names.NUMPY:
            return None
        count = math.prod(tensor.shape)
        dtype = np.dtype(names.NUMPY[tensor.dtype])
        need = (count + 1) // 2 if tensor.dtype == "int4" else count * dtype.itemsize
        if span.size != need:
            raise UnreadableModel(
                f"{self.path}: tensor {tensor.name!r} is {tensor.dtype}{list(tensor.shape)}, {need:,} bytes, but its "
                f"buffer holds {span.size:,}; the file is damaged, copy or convert it again"
            )
        if tensor.dtype == "int4":
            return _unpacked(np.frombuffer(self.raw(tensor), np.int8), count).reshape(tensor.shape)
        return np.frombuffer(self.raw(tensor), dtype).reshape(tensor.shape)

    def check_constants(self) -> None:
        """Raise UnreadableModel where a buffer has another size than its tensor's shape asks for."""
        for graph in self.subgraphs:
            for tensor in graph.tensors:
                self.array(tensor)

    @cached_property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, all subgraphs together."""
        return Counter(o.op for g in self.subgraphs for o in g.operators)

    @cached_property
    def dtypes(self) -> Counter[str]:
        """How many constant tensors there are of each dtype."""
        found = (t.dtype for g in self.subgraphs for t in g.tensors if self.buffers[t.buffer].size)
        return Counter(found)

    @cached_property
    def quantised(self) -> bool:
        """Whether weights or activations are integer codes of real numbers."""
        kinds = {"int8", "uint8", "int16", "int4"}
        return any(t.quantisation is not None and t.dtype in kinds for g in self.subgraphs for t in g.tensors)

    @property
    def custom(self) -> tuple[str, ...]:
        """Names of the custom operators, Flex ones included."""
        return tuple(dict.fromkeys(o.op for g in self.subgraphs for o in g.operators if o.custom))


def _unpacked(packed: Array, count: int) -> Array:
    """Two 4 bit codes a byte, the low half first, with their signs."""
    low, high = (packed << 4) >> 4, packed >> 4
    return np.stack([low, high], axis=-1).reshape(-1)[:count]


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
