"""Where TensorFlow's files hold their weights: variables in the shards of a checkpoint, constants within the graph.

What running the default signature does not read (slots of optimisers, a second copy that Keras saves) is left out.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.onnx.scan import BYTES, FIXED32, FIXED64, VARINT, Malformed, extent, fields, text
from fetafix.formats.tensorflow import bundle as tf_bundle
from fetafix.formats.tensorflow import env as tf_env
from fetafix.formats.tensorflow import stored_roles
from fetafix.formats.tensorflow.frozen import open_graph
from fetafix.formats.tensorflow.program import Program
from fetafix.formats.tensorflow.recognise import FILE, GRAPHDEF, folder_of
from fetafix.formats.tensorflow.saved_model import open_saved_model
from fetafix.formats.tensorflow.variables import keys
from fetafix.storage.holding import Held

_DTYPES: Mapping[int, Any] = {  # DataType of types.proto
    1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 9: "<i8", 10: "?", 14: ml_dtypes.bfloat16, 17: "<u2",
    19: "<f2", 22: "<u4", 23: "<u8", 24: ml_dtypes.float8_e5m2, 25: ml_dtypes.float8_e4m3fn,
}  # fmt: skip
_MATRIX = 2
_Roles = Mapping[str, "int | None"]


def held(path: Path, format: str) -> list[Held]:
    """The variables and constants that the model reads, nothing of which is run. Raises UnreadableModel.

    Constants that are one value for all elements, and strings, have no bytes of their own and are left out.
    """
    frozen = format == GRAPHDEF
    trusted = OpenOptions(trust=True)
    with tf_env.unheard():
        tf_env.load()
    program = open_graph(path, trusted) if frozen else open_saved_model(path, trusted)
    roles = stored_roles.weights(program.flat.graph_def.node)
    file = path if frozen else folder_of(path) / FILE
    return [*_constants(file, frozen, program, roles), *_variables(program, roles)]


def _variables(program: Program, roles: _Roles) -> Iterator[Held]:
    if program.saver is None:
        return
    stored = tf_bundle.entries(program.saver.prefix)
    key_of = keys(program.graph_def, program.saver.restore)
    names = _names(program)
    named: set[str] = set()
    for node, main in program.flat.variables.items():
        entry = stored.get(key_of.get(main, ""))
        if entry is None or entry.type not in _DTYPES or not math.prod(entry.shape) or not entry.whole:
            continue
        own = names.get(main, "")
        name = own if own and own not in named else entry.key
        named.add(name)
        place = (entry.offset, entry.size)
        yield _held(name, np.dtype(_DTYPES[entry.type]), entry.shape, entry.path, (place,), roles, node)


def _names(program: Program) -> dict[str, str]:
    """Node → the variable's own name, where it says one; several may share it."""
    return {n.name: n.attr["shared_name"].s.decode() for n in program.graph_def.node if "shared_name" in n.attr}


def _held(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], path: Path, pieces: tuple[tuple[int, int], ...],
    roles: _Roles, node: str,
) -> Held:
    weight = node in roles and len(shape) >= _MATRIX
    axis = roles[node] if weight else None
    return Held(name, "weight" if weight else "constant", dtype, shape, path, pieces,
                axis + len(shape) if axis is not None and axis < 0 else axis)


def _constants(path: Path, frozen: bool, program: Program, roles: _Roles) -> list[Held]:
    """Const nodes of a GraphDef, or of the graph that a SavedModel serves, and of functions that running it calls."""
    read = {n.name for n in program.flat.graph_def.node}
    functions = {f.signature.name for f in program.running.library.function}
    found: dict[str, Held] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for start, end in _nodes(data, *((0, len(data)) if frozen else _graph(data)), functions):
                held = _constant(path, data, start, end, read, roles)
                if held is not None:
                    found.setdefault(held.name, held)
        except Malformed:
            raise UnreadableModel(f"{path}: cut off or damaged; copy or download it again") from None
    return list(found.values())


def _graph(data: mmap.mmap) -> tuple[int, int]:
    """SavedModel: meta_graphs 2, of which graph_def 2, and meta_info_def 1 with tags 4; chosen as `meta_graph` does."""

    def behind(meta: tuple[int, int]) -> tuple[bool, bool]:
        tags = {text(data, *tag) for info in _inner(data, *meta, 1) for tag in _inner(data, *info, 4)}
        return "serve" not in tags, tags != {"serve"}

    meta = min(_inner(data, 0, len(data), 2), key=behind, default=(0, 0))
    return next(_inner(data, *meta, 2), (0, 0))


def _nodes(data: mmap.mmap, start: int, end: int, functions: Collection[str]) -> Iterator[tuple[int, int]]:
    """GraphDef: node 1, library 2, of which function 1, of which signature 1 (of which name 1) and node_def 3."""
    for number, wire, a, b in fields(data, start, end):
        if (number, wire) == (1, BYTES):
            yield a, b
        elif (number, wire) == (2, BYTES):
            for c, d in _inner(data, a, b, 1):
                names = [text(data, *name) for at in _inner(data, c, d, 1) for name in _inner(data, *at, 1)]
                if names and names[0] in functions:
                    yield from _inner(data, c, d, 3)


def _inner(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the messages lie that a message holds in a field."""
    return ((a, b) for number, wire, a, b in fields(data, start, end) if (number, wire) == (wanted, BYTES))


def _constant(path: Path, data: mmap.mmap, start: int, end: int, read: set[str], roles: _Roles) -> Held | None:
    """NodeDef: name 1, op 2, attr 5 (a map of names 1 to values 2, of which tensor 8)."""
    name, op = (next((text(data, *at) for at in _inner(data, start, end, part)), "") for part in (1, 2))
    if op != "Const" or name not in read:
        return None
    values = (value for attribute in _inner(data, start, end, 5) for value in _inner(data, *attribute, 2))
    tensor = next((at for value in values for at in _inner(data, *value, 8)), (0, 0))
    type, shape, pieces = _tensor(data, *tensor)
    dtype = np.dtype(_DTYPES[type]) if type in _DTYPES else None
    if dtype is None or sum(n for _, n in pieces) != math.prod(shape) * dtype.itemsize or not pieces:
        return None
    return _held(name, dtype, shape, path, tuple(pieces), roles, name)


def _tensor(data: mmap.mmap, start: int, end: int) -> tuple[int, tuple[int, ...], list[tuple[int, int]]]:
    """TensorProto: dtype 1, tensor_shape 2, tensor_content 4, float_val 5, double_val 6."""
    type, shape, pieces = 0, tuple[int, ...](), list[tuple[int, int]]()
    for number, wire, a, b in fields(data, start, end):
        if (number, wire) == (1, VARINT):
            type = a
        elif (number, wire) == (2, BYTES):
            shape = tf_bundle.dims(data, a, b)
        elif number in (4, 5, 6) and wire in (BYTES, FIXED32, FIXED64):
            pieces.append(extent(wire, a, b))
    return type, shape, [p for p in pieces if p[1]]
