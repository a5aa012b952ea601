"""Where an ONNX file holds its tensors: a walk over the protobuf tags that notes offsets; nothing is parsed or copied.

Field numbers are those of onnx.proto (TensorProto, SparseTensorProto). Values lie as raw bytes, as packed or single
fixed-width fields (float_data, double_data), or in another file. int32_data, int64_data and uint64_data are varints,
whose width depends on the value: such a tensor cannot be overwritten in place, and `addressable` stores it anew.
"""

from __future__ import annotations

import math
import mmap
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.onnx import stored_roles
from fetafix.formats.onnx.scan import BYTES, DTYPES, VARINT, Malformed, extent, fields, packed, text
from fetafix.storage.holding import Held

_FLOATS, _INT32, _INT64, _NAME, _RAW, _DOUBLES, _UINT64, _EXTERNAL, _LOCATION = 4, 5, 7, 8, 9, 10, 11, 13, 14
_NAMES = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int8": "<i1", "uint8": "<u1", "int16": "<i2",
          "uint16": "<u2", "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "?",
          "complex64": "<c8", "complex128": "<c16", "int4": "<u1", "uint4": "<u1", "float4_e2m1fn": "<u1"}
_MATRIX = 2
Needed = Literal["all", "weights", "none"]
_HALF_BYTES = {"int4", "uint4", "float4_e2m1fn"}


@dataclass(slots=True)
class Place:
    """A tensor's tags. varints: whether its values are stored as varints; entries: of external data."""

    name: str = ""
    type: str = "undefined"
    dims: tuple[int, ...] = ()
    pieces: list[tuple[int, int]] = field(default_factory=list)
    varints: bool = False
    external: bool = False
    entries: dict[str, str] = field(default_factory=dict)


def held(path: Path, format: str) -> list[Held]:
    """The tensors of an ONNX file; constants that are stored as varints are left out (`copy` stores them otherwise).

    Raises UnreadableModel where a weight is stored as varints.
    """
    found, uses = _walked(path)
    for place in found:
        if place.varints and _is_weight(place, uses):
            raise UnreadableModel(
                f"{path}: tensor {place.name!r} ({place.type}{list(place.dims)}) is stored as numbers of varying width "
                "(int32_data or int64_data), which cannot be overwritten in place; save the model with raw_data: "
                "onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)")
    return [_held(path, place, uses) for place in found if place.pieces or place.external]


def copy(path: Path, folder: Path, needed: Needed = "all") -> Path:
    """A copy of a model, with the files that hold its weights apart, in which the tensors needed can be overwritten.

    The same bytes, unless one of these is stored as varints: all such tensors are then stored as raw bytes.
    """
    found, uses = _walked(path)
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / path.name
    if any(p.varints and (needed == "all" or (needed == "weights" and _is_weight(p, uses))) for p in found):
        _rewrite(path, out)
    else:
        shutil.copyfile(path, out)
    for name in sorted({p.entries.get("location", "") for p in found if p.external}):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UnreadableModel(f"{path}: expected external data in the model's folder, found {name!r}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, folder / name)
    return out


def _rewrite(path: Path, out: Path) -> None:
    """Write a model whose varints are raw bytes; its nodes and external data stay as they are."""
    import onnx
    from onnx import numpy_helper

    from fetafix.formats.onnx.store import is_apart, tensors

    model = onnx.load(str(path), load_external_data=False)
    for tensor in tensors(model):
        if not is_apart(tensor) and (tensor.int32_data or tensor.int64_data or tensor.uint64_data):
            made = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
            made.data_type = tensor.data_type
            tensor.CopyFrom(made)
    out.write_bytes(model.SerializeToString())


def _is_weight(place: Place, uses: stored_roles.Uses) -> bool:
    known = uses.of(place.name, len(place.dims)) is not None and place.type not in ("int64", "bool")
    return known and len(place.dims) >= _MATRIX


def _walked(path: Path) -> tuple[list[Place], stored_roles.Uses]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(data)
        try:
            for number, wire, start, end in fields(data, 0, len(data)):
                if number == 7 and wire == BYTES:
                    walk.graph(start, end)
                elif number == 25 and wire == BYTES:
                    for part, part_wire, a, b in fields(data, start, end):
                        if part == 7 and part_wire == BYTES:
                            walk.node(a, b)
        except Malformed:
            raise UnreadableModel(f"{path}: cut off or damaged; copy or download it again") from None
        return walk.places, stored_roles.Uses(walk.nodes, {p.name: math.prod(p.dims) for p in walk.places})


class _Walk:
    """Tensors and nodes of a file; nodes of bodies and functions among those of the graph."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.places: list[Place] = []
        self.nodes: list[stored_roles.Call] = []

    def graph(self, start: int, end: int) -> None:
        """GraphProto: node 1, initializer 5, sparse_initializer 15."""
        for number, wire, a, b in fields(self._data, start, end):
            if wire != BYTES:
                continue
            if number == 1:
                self.node(a, b)
            elif number == 5:
                self.places.append(self._tensor(a, b))
            elif number == 15:
                self._sparse(a, b)

    def _sparse(self, start: int, end: int) -> None:
        for part, wire, a, b in fields(self._data, start, end):
            if part in (1, 2) and wire == BYTES:
                place = self._tensor(a, b)
                place.name = place.name or f"sparse@{a}"
                self.places.append(place)

    def node(self, start: int, end: int) -> None:
        """NodeProto: input 1, output 2, op_type 4, attribute 5."""
        inputs, outputs, op, attributes = [], [], "", []
        for number, wire, a, b in fields(self._data, start, end):
            if wire != BYTES:
                continue
            if number == 1:
                inputs.append(text(self._data, a, b))
            elif number == 2:
                outputs.append(text(self._data, a, b))
            elif number == 4:
                op = text(self._data, a, b)
            elif number == 5:
                attributes.append((a, b))
        known: dict[str, tuple[int, ...]] = {}
        for a, b in attributes:
            self._attribute(a, b, outputs[0] if outputs else "", known)
        self.nodes.append(stored_roles.Call(op, tuple(inputs), tuple(outputs), known))

    def _attribute(self, start: int, end: int, output: str, known: dict[str, tuple[int, ...]]) -> None:
        """AttributeProto: name 1, i 3, t 5, g 6, ints 8, tensors 10, graphs 11."""
        name, whole = "", []
        for number, wire, a, b in fields(self._data, start, end):
            if number == 1 and wire == BYTES:
                name = text(self._data, a, b)
            elif number == 3 and wire == VARINT:
                whole.append(a)
            elif number == 8:
                whole += [a] if wire == VARINT else packed(self._data, a, b)
            elif number in (5, 10) and wire == BYTES:
                place = self._tensor(a, b)
                place.name = output or place.name
                self.places.append(place)
            elif number in (6, 11) and wire == BYTES:
                self.graph(a, b)
        known[name] = tuple(v - (1 << 64) if v >> 63 else v for v in whole)

    def _tensor(self, start: int, end: int) -> Place:
        """TensorProto: dims 1, data_type 2, *_data 4–7, 10, 11, name 8, raw_data 9, external_data 13."""
        place, dims = Place(), []
        for number, wire, a, b in fields(self._data, start, end):
            if number == 1:
                dims += [a] if wire == VARINT else packed(self._data, a, b)
            elif number == 2 and wire == VARINT:
                place.type = DTYPES[a] if a < len(DTYPES) else f"type {a}"
            elif number == _NAME and wire == BYTES:
                place.name = text(self._data, a, b)
            elif number in (_FLOATS, _DOUBLES, _RAW):
                place.pieces.append(extent(wire, a, b))
            elif number in (_INT32, _INT64, _UINT64):
                place.varints = True
            elif number == _LOCATION and wire == VARINT:
                place.external = a == 1
            elif number == _EXTERNAL and wire == BYTES:
                pair = {n: text(self._data, c, d) for n, w, c, d in fields(self._data, a, b) if w == BYTES}
                place.entries[pair.get(1, "")] = pair.get(2, "")
        place.dims = tuple(dims)
        return place


def _held(path: Path, place: Place, uses: stored_roles.Uses) -> Held:
    dtype = _dtype(path, place)
    shape, file, pieces = place.dims, path, tuple(p for p in place.pieces if p[1])
    if place.type in _HALF_BYTES:
        shape = (-(-math.prod(shape) // 2),)
    need = math.prod(shape) * dtype.itemsize
    if place.external:
        file = path.parent / place.entries.get("location", "")
        pieces = ((int(place.entries.get("offset") or 0), need),) if need else ()
        _check_apart(path, place, file, pieces)
    if sum(n for _, n in pieces) != need:
        raise UnreadableModel(f"{path}: tensor {place.name!r} is {place.type}{list(place.dims)}, {need:,} bytes, but "
                              f"holds {sum(n for _, n in pieces):,}; the file is damaged, copy or download it again")
    use, weight = uses.of(place.name, len(place.dims)), _is_weight(place, uses)
    axis = use.axis if use is not None and weight and len(shape) > 1 else None
    return Held(place.name, "weight" if weight else "constant", dtype, shape, file, pieces, axis)


def _check_apart(path: Path, place: Place, file: Path, pieces: tuple[tuple[int, int], ...]) -> None:
    need = sum(pieces[-1]) if pieces else 0
    size = file.stat().st_size if file.is_file() else 0
    if size < need:
        found = f"it ends after {size:,}" if file.is_file() else "there is no such file"
        raise UnreadableModel(f"{path}: tensor {place.name!r}: expected {need:,} bytes in {file}, but {found}")


def _dtype(path: Path, place: Place) -> np.dtype[Any]:
    if place.type in _NAMES:
        return np.dtype(_NAMES[place.type])
    import ml_dtypes

    found = getattr(ml_dtypes, place.type, None)
    if found is None:
        raise UnreadableModel(f"{path}: tensor {place.name!r} has the type {place.type!r}, which this version does not "
                              "know")
    known: np.dtype[Any] = np.dtype(found)
    return known
