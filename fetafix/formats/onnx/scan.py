"""Facts about an ONNX file from its protobuf tags alone, without the `onnx` package.

A plain run needs no parsed model, so a worker that only runs one should not pay for parsing it twice. The walk reads
field numbers and lengths and skips the weights; it also tells a truncated file from one that was never ONNX. Field
numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, FunctionProto).
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fetafix.errors import UnreadableModel

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MODEL_FIELDS = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES,
                 25: BYTES, 26: BYTES}
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}

# TensorProto.DataType, by number
DTYPES = ("undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
          "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
          "float8_e5m2", "float8_e5m2fnuz", "uint4", "int4", "float4_e2m1fn")


class Malformed(Exception):
    """The bytes are no protobuf message of the kind expected. `truncated`: field `number` reaches behind the end."""

    def __init__(self, truncated: bool = False, number: int = 0) -> None:
        super().__init__()
        self.truncated, self.number = truncated, number


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """Where a tensor's data lie: a file in the model's folder, offset and length in bytes (None: to its end)."""

    tensor: str
    location: str
    offset: int = 0
    length: int | None = None


@dataclass(slots=True)
class Facts:
    """What the tags tell. `ops` counts (domain, operator) in bodies and functions too; `dtypes` counts initializers."""

    ir_version: int = 0
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    functions: set[tuple[str, str]] = field(default_factory=set)
    ops: Counter[tuple[str, str]] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    external: list[ExternalTensor] = field(default_factory=list)
    unshaped: set[str] = field(default_factory=set)
    has_graph: bool = False

    @property
    def quantised(self) -> bool:
        """Whether the graph holds quantisation operators."""
        return any(op in _QUANTISED or op.startswith("QLinear") for _, op in self.ops)


def scan(path: Path, deep: bool = True) -> Facts | None:
    """The facts, or None where the file is no ONNX model. Not `deep` looks no further than whether there are nodes.

    Raises UnreadableModel where it begins like one but is cut off, damaged or has no nodes.
    """
    size = path.stat().st_size
    if size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        facts = Facts()
        try:
            _model(data, size, facts, deep)
        except Malformed as reason:
            facts.has_graph |= reason.number == 7
            _judge(path, size, facts, reason.truncated)
            return None
        if not facts.has_graph or not facts.ir_version:
            return None
        if not facts.opsets:
            _judge(path, size, facts, True)
            return None
        if not facts.nodes:
            raise UnreadableModel(f"{path}: this is an ONNX file, but its graph has no nodes; nothing can be computed")
        return facts


def _judge(path: Path, size: int, facts: Facts, truncated: bool) -> None:
    """Decide between 'not ONNX' (return) and 'ONNX, but broken' (raise) from how far the walk came."""
    # A SavedModel starts with the same tags and schema version 1; ONNX files in use have IR version 3 or more.
    graph = facts.has_graph and 0 < facts.ir_version < 100
    if graph or (truncated and 3 <= facts.ir_version < 100):
        cut = f"the file ends after {size:,} bytes, in the middle of the model"
        what = cut if truncated else "its content is damaged"
        raise UnreadableModel(f"{path}: this is an ONNX file, but {what}; copy or download it again")


def varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """(a number of varying width, where it ends)."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Malformed
    raise Malformed(truncated=True)


def packed(data: mmap.mmap, at: int, end: int) -> list[int]:
    """The varints that lie one behind the other between two places: a packed field."""
    found, value, shift = list[int](), 0, 0
    for byte in data[at:end]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, value or start, end) of each field between two offsets."""
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(data, at - 1, end)
        number, wire = tag >> 3, tag & 7
        if wire == BYTES:
            length = data[at] if at < end else 0x80
            at += 1
            if length >= 0x80:
                length, at = varint(data, at - 1, end)
            if at + length > end:
                raise Malformed(truncated=True, number=number)
            yield number, wire, at, at + length
            at += length
        elif wire == VARINT:
            value, at = varint(data, at, end)
            yield number, wire, value, at
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
            if at > end:
                raise Malformed(truncated=True)
            yield number, wire, 0, at
        else:
            raise Malformed
        if number == 0:
            raise Malformed


def extent(wire: int, start: int, end: int) -> tuple[int, int]:
    """(offset, bytes) of a field's values of fixed width: packed, or a single one."""
    width = {FIXED32: 4, FIXED64: 8}.get(wire)
    return (end - width, width) if width else (start, end - start)


def text(data: mmap.mmap, start: int, end: int) -> str:
    """A field's bytes as text."""
    return bytes(data[start:end]).decode("utf-8", "replace")


def _model(data: mmap.mmap, size: int, facts: Facts, deep: bool) -> None:
    for number, wire, start, end in fields(data, 0, size):
        if _MODEL_FIELDS.get(number) != wire:
            raise Malformed
        facts.has_graph |= number == 7
        if number == 1:
            facts.ir_version = start
        elif number in (2, 3):
            facts.producer = f"{facts.producer} {text(data, start, end)}".strip()
        elif number == 7 and deep:
            _graph(data, start, end, facts, top=True)
        elif number == 7:
            facts.nodes = any(n == 1 for n, *_ in fields(data, start, end))
        elif number == 8:
            _opset(data, start, end, facts)
        elif number == 25 and deep:
            _function(data, start, end, facts)


def _opset(data: mmap.mmap, start: int, end: int, facts: Facts) -> None:
    domain, version = "", 0
    for number, wire, a, b in fields(data, start, end):
        if number == 1 and wire == BYTES:
            domain = text(data, a, b)
        elif number == 2 and wire == VARINT:
            version = a
    facts.opsets["" if domain == "ai.onnx" else domain] = version


def _graph(data: mmap.mmap, start: int, end: int, facts: Facts, top: bool = False) -> None:
    for number, wire, a, b in fields(data, start, end):
        if wire != BYTES:
            continue
        if number == 1:
            facts.nodes += top
            _node(data, a, b, facts)
        elif number == 5:
            _tensor(data, a, b, facts)
        elif number == 15:
            for part, part_wire, c, d in fields(data, a, b):
                if part in (1, 2) and part_wire == BYTES:
                    _tensor(data, c, d, facts)
        elif number in (11, 12) and top:
            _value_info(data, a, b, facts)


def _function(data: mmap.mmap, start: int, end: int, facts: Facts) -> None:
    name = domain = ""
    for number, wire, a, b in fields(data, start, end):
        if wire != BYTES:
            continue
        if number == 1:
            name = text(data, a, b)
        elif number == 7:
            _node(data, a, b, facts)
        elif number == 10:
            domain = text(data, a, b)
    facts.functions.add((domain, name))


def _node(data: mmap.mmap, start: int, end: int, facts: Facts) -> None:
    op = domain = ""
    for number, wire, a, b in fields(data, start, end):
        if wire != BYTES:
            continue
        if number == 4:
            op = text(data, a, b)
        elif number == 7:
            domain = text(data, a, b)
        elif number == 5:
            _attribute(data, a, b, facts)
    facts.ops["" if domain == "ai.onnx" else domain, op] += 1


def _attribute(data: mmap.mmap, start: int, end: int, facts: Facts) -> None:
    for number, wire, a, b in fields(data, start, end):
        if wire != BYTES:
            continue
        if number in (5, 10):
            _tensor(data, a, b, facts, count=False)
        elif number in (6, 11):
            _graph(data, a, b, facts)


def _tensor(data: mmap.mmap, start: int, end: int, facts: Facts, count: bool = True) -> None:
    name, dtype, external, entries = "", 0, False, {}
    for number, wire, a, b in fields(data, start, end):
        if number == 2 and wire == VARINT:
            dtype = a
        elif number == 14 and wire == VARINT:
            external = a == 1
        elif number == 8 and wire == BYTES:
            name = text(data, a, b)
        elif number == 13 and wire == BYTES:
            pair = {n: text(data, c, d) for n, w, c, d in fields(data, a, b) if w == BYTES}
            entries[pair.get(1, "")] = pair.get(2, "")
    if count:
        facts.dtypes[DTYPES[dtype] if dtype < len(DTYPES) else f"type {dtype}"] += 1
    if external:
        length = entries.get("length", "")
        place = ExternalTensor(name, entries.get("location", ""), int(entries.get("offset") or 0),
                               int(length) if length else None)
        facts.external.append(place)


def _value_info(data: mmap.mmap, start: int, end: int, facts: Facts) -> None:
    """Note graph inputs and outputs without a shape, which the runtime reports as if they were scalars."""
    name, shaped = "", False
    for number, wire, a, b in fields(data, start, end):
        if number == 1 and wire == BYTES:
            name = text(data, a, b)
        elif number == 2 and wire == BYTES:
            tensors = [(c, d) for n, w, c, d in fields(data, a, b) if n == 1 and w == BYTES]
            shaped = any(n == 2 for c, d in tensors for n, *_ in fields(data, c, d))
    if not shaped:
        facts.unshaped.add(name)
