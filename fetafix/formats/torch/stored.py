"""Where PyTorch's files hold their tensors: safetensors, files of torch.save (old and new), TorchScript, torch.export.

Pickles are read into notes (`notes`): nothing of the file is imported or called, and torch is not needed.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.checksums import data_start
from fetafix.formats.torch.notes import TYPES, Notes, Tensor, named
from fetafix.formats.torch.recognise import EXPORT, SAFETENSORS
from fetafix.storage.holding import Held

_SHORT = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
          "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}  # fmt: skip
_SCALAR_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
                 12: "bool", 13: "bfloat16"}  # torch.export's numbers
_MATRIX = 2


def held(path: Path, format: str) -> list[Held]:
    """The tensors of a file, by the names of the state dict. Raises UnreadableModel for what cannot be addressed."""
    if format == SAFETENSORS:
        return _safetensors(path)
    if not zipfile.is_zipfile(path):
        return list(_legacy(path))
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        places = {m.filename.partition("/")[2]: _Member(m, data_start(file, m)) for m in archive.infolist()}
        if format == EXPORT:
            return list(_exported(path, archive, places))
        return list(_pickled(path, archive, places))


def _safetensors(path: Path) -> list[Held]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    found = []
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + int(o) for o in entry["data_offsets"])
            dtype = _dtype(path, name, _SHORT.get(entry["dtype"], entry["dtype"]))
            shape = tuple(int(n) for n in entry["shape"])
            if end - begin != math.prod(shape) * dtype.itemsize or end > path.stat().st_size:
                raise UnreadableModel(f"{path}: tensor {name!r} does not fit its place in the file; it is damaged")
            found.append(_held(path, name, dtype, shape, begin, None))
    return found


@dataclass(frozen=True, slots=True)
class _Member:
    info: zipfile.ZipInfo
    start: int


def _pickled(path: Path, archive: zipfile.ZipFile, places: Mapping[str, _Member]) -> Iterator[Held]:
    for folder in ("data", "constants"):
        pickled = places.get(f"{folder}.pkl")
        if pickled is None:
            continue
        try:
            found = Notes(io.BytesIO(archive.read(pickled.info))).load()
        except Exception as error:  # a damaged pickle can fail in any way whatever
            raise UnreadableModel(f"{path}: its tensors cannot be told from its pickle: {error}") from error
        for name, tensor in named(found, "" if folder == "data" else "constants"):
            yield _placed(path, name, tensor, _room(path, name, places.get(f"{folder}/{tensor.key}")))


def _legacy(path: Path) -> Iterator[Held]:
    """Of before torch 1.6: pickles of magic, version, system, object and keys, then each storage's length and bytes."""
    with path.open("rb") as file:
        try:
            for _ in range(3):
                Notes(file).load()
            notes = Notes(file)
            tensors = list(named(notes.load(), ""))
            keys = Notes(file).load()
            widths = {key: _dtype(path, key, kind).itemsize for key, kind in notes.types.items()}
            rooms = {}
            for key in map(str, keys):
                size = int.from_bytes(file.read(8), "little") * widths[key]
                rooms[key] = (file.tell(), size)
                file.seek(size, 1)
        except UnreadableModel:
            raise
        except Exception as error:  # as above
            raise UnreadableModel(f"{path}: its tensors cannot be told from its pickle: {error}") from error
        if sum(max(rooms.values(), default=(0, 0))) > path.stat().st_size:
            raise UnreadableModel(f"{path}: cut off in the middle of its tensors; copy or download it again")
    for name, tensor in tensors:
        yield _placed(path, name, tensor, rooms[tensor.key])


def _exported(path: Path, archive: zipfile.ZipFile, places: Mapping[str, _Member]) -> Iterator[Held]:
    configs = [n for n in places if n.startswith("data/") and n.endswith("_config.json")]
    if not configs:
        raise UnreadableModel(f"{path}: a torch.export file of an older version, whose tensors this version does not "
                              "address; save it again with torch.export.save of torch 2.9 or newer")
    for config in configs:
        table = json.loads(archive.read(places[config].info)).get("config", {})
        for name, entry in table.items():
            meta = entry["tensor_meta"]
            if entry.get("use_pickle") or any("as_int" not in n for n in (*meta["sizes"], *meta["strides"])):
                continue
            tensor = Tensor(entry["path_name"], _SCALAR_TYPES.get(meta["dtype"], f"type {meta['dtype']}"),
                             int(meta["storage_offset"]["as_int"]), *(tuple(int(n["as_int"]) for n in meta[k])
                                                                      for k in ("sizes", "strides")))
            place = places.get(f"{config.rpartition('/')[0]}/{tensor.key}")
            yield _placed(path, name, tensor, _room(path, name, place))


def _room(path: Path, name: str, member: _Member | None) -> tuple[int, int]:
    """Where a storage begins in the file, and its bytes."""
    if member is None or member.info.compress_type != zipfile.ZIP_STORED:
        what = "is missing" if member is None else "is compressed"
        raise UnreadableModel(f"{path}: the storage of tensor {name!r} {what}, so it cannot be overwritten in place; "
                              "save the model again with torch")
    return member.start, member.info.file_size


def _placed(path: Path, name: str, tensor: Tensor, room: tuple[int, int]) -> Held:
    dtype, order = _dtype(path, name, tensor.type), _order(tensor)
    if order is None:
        raise UnreadableModel(f"{path}: tensor {name!r} is a view with gaps (shape {list(tensor.shape)}, strides "
                              f"{list(tensor.strides)}); save the model with its tensors made contiguous")
    begin = tensor.offset * dtype.itemsize
    if begin + math.prod(tensor.shape) * dtype.itemsize > room[1]:
        raise UnreadableModel(f"{path}: tensor {name!r} lies outside its storage; the file is damaged")
    return _held(path, name, dtype, tensor.shape, room[0] + begin, order)


def _order(tensor: Tensor) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest, if the values lie side by side in that order."""
    axes = sorted(range(len(tensor.shape)), key=lambda i: (-tensor.strides[i], i))
    axes = [a for a in axes if tensor.shape[a] == 1] + [a for a in axes if tensor.shape[a] != 1]
    step = 1
    for axis in reversed(axes):
        if tensor.shape[axis] != 1 and tensor.strides[axis] != step and 0 not in tensor.shape:
            return None
        step *= tensor.shape[axis]
    return tuple(axes)


def _held(path: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], start: int,
          order: tuple[int, ...] | None) -> Held:
    """Names tell the role: a state dict knows no operators, but what has two dimensions or more is multiplied by."""
    weight = len(shape) >= _MATRIX and dtype.name not in ("int64", "bool")
    plain = order is None or order == tuple(range(len(shape)))
    pieces = ((start, math.prod(shape) * dtype.itemsize),)
    return Held(name, "weight" if weight else "constant", dtype, shape, path, pieces, 0 if weight else None,
                None if plain else order)


def _dtype(path: Path, name: str, type: str) -> np.dtype[Any]:
    if type not in TYPES:
        raise UnreadableModel(f"{path}: tensor {name!r} has the type {type}, which this version does not know")
    found: np.dtype[Any] = np.dtype(TYPES[type])
    return found
