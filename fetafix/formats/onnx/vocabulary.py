"""How many entries the tables have that integer inputs index: made-up ids should reach all of a vocabulary."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fetafix.formats.onnx.scan import BYTES, VARINT, Malformed, fields, packed, text

_PASSING = {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose"}


@dataclass(slots=True)
class _Tables:
    """sizes: initializer → length of axis 0. reads: (operator, inputs, outputs, axis) of nodes that may pass ids on."""

    sizes: dict[str, int] = field(default_factory=dict)
    reads: list[tuple[str, list[str], list[str], int]] = field(default_factory=list)


def vocabularies(path: Path, inputs: Iterable[str]) -> dict[str, int]:
    """Input name → entries of the smallest table that its values index; inputs that index none are left out."""
    names = list(inputs)
    if not names or path.stat().st_size == 0:
        return {}
    tables = _Tables()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for number, wire, start, end in fields(data, 0, len(data)):
                if number == 7 and wire == BYTES:
                    _graph(data, start, end, tables)
        except Malformed:  # the scan and the runtime say what is wrong with such a file
            return {}
    return {name: size for name in names if (size := _smallest(name, tables))}


def _smallest(name: str, tables: _Tables) -> int | None:
    ids, found = {name}, list[int]()
    for op, inputs, outputs, axis in tables.reads:  # topological order
        if op in _PASSING and inputs[:1] and inputs[0] in ids:
            ids.update(outputs)
        elif op == "Gather" and len(inputs) == 2 and inputs[1] in ids and inputs[0] in tables.sizes and axis == 0:
            found.append(tables.sizes[inputs[0]])
    return min(found, default=None)


def _graph(data: mmap.mmap, start: int, end: int, tables: _Tables) -> None:
    for number, wire, a, b in fields(data, start, end):
        if number == 1 and wire == BYTES:
            _node(data, a, b, tables)
        elif number == 5 and wire == BYTES:
            _tensor(data, a, b, tables)


def _node(data: mmap.mmap, start: int, end: int, tables: _Tables) -> None:
    op, axis, inputs, outputs = "", 0, list[str](), list[str]()
    for number, wire, a, b in fields(data, start, end):
        if number == 1 and wire == BYTES:
            inputs.append(text(data, a, b))
        elif number == 2 and wire == BYTES:
            outputs.append(text(data, a, b))
        elif number == 4 and wire == BYTES:
            op = text(data, a, b)
        elif number == 5 and wire == BYTES:
            parts = {n: (c, d) for n, w, c, d in fields(data, a, b) if (n, w) in ((1, BYTES), (3, VARINT))}
            if 1 in parts and text(data, *parts[1]) == "axis" and 3 in parts:
                axis = parts[3][0]
    if op in _PASSING or op == "Gather":
        tables.reads.append((op, inputs, outputs, axis))


def _tensor(data: mmap.mmap, start: int, end: int, tables: _Tables) -> None:
    name, dims = "", list[int]()
    for number, wire, a, b in fields(data, start, end):
        if number == 8 and wire == BYTES:
            name = text(data, a, b)
        elif number == 1 and wire == VARINT:
            dims.append(a)
        elif number == 1 and wire == BYTES:  # packed; one byte a number below 128, else a varint
            dims += packed(data, a, b)
    if dims:
        tables.sizes[name] = dims[0]
