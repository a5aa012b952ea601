"""Where PyTorch's files hold their tensors: safetensors, and zip archives of torch.save, TorchScript and torch.export.

The pickle of an archive is read by an unpickler that makes nothing but notes: no class of the file is imported, no
function called. torch is not needed.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.checksums import data_start
from fetafix.formats.torch.recognise import EXPORT, SAFETENSORS
from fetafix.storage.holding import Held

_TYPES: dict[str, Any] = {
    "float64": "<f8", "double": "<f8", "float32": "<f4", "float": "<f4", "float16": "<f2", "half": "<f2",
    "bfloat16": ml_dtypes.bfloat16, "int64": "<i8", "long": "<i8", "int32": "<i4", "int": "<i4", "int16": "<i2",
    "short": "<i2", "int8": "<i1", "char": "<i1", "uint8": "<u1", "byte": "<u1", "bool": "?", "qint8": "<i1",
    "quint8": "<u1", "qint32": "<i4", "complex64": "<c8", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
_SHORT = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
          "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}  # fmt: skip
_SCALAR_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
                 12: "bool", 13: "bfloat16"}  # torch.export's numbers
_MATRIX = 2


def held(path: Path, format: str) -> list[Held]:
    """The tensors of a file, by the names of the state dict. Raises UnreadableModel for files of before torch 1.6."""
    if format == SAFETENSORS:
        return _safetensors(path)
    if not zipfile.is_zipfile(path):
        raise UnreadableModel(
            f"{path}: written in the format of before torch 1.6, whose tensors this version does not address; save it "
            "again: torch.save(torch.load(path), path)")
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


@dataclass(frozen=True, slots=True)
class _Tensor:
    """As the pickle describes it; sizes and strides in elements."""

    key: str
    type: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _pickled(path: Path, archive: zipfile.ZipFile, places: Mapping[str, _Member]) -> Iterator[Held]:
    for folder in ("data", "constants"):
        pickled = places.get(f"{folder}.pkl")
        if pickled is None:
            continue
        try:
            found = _Notes(io.BytesIO(archive.read(pickled.info))).load()
        except Exception as error:  # a damaged pickle can fail in any way whatever
            raise UnreadableModel(f"{path}: its tensors cannot be told from its pickle: {error}") from error
        for name, tensor in _named(found, "" if folder == "data" else "constants"):
            yield _placed(path, name, tensor, places.get(f"{folder}/{tensor.key}"))


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
            tensor = _Tensor(entry["path_name"], _SCALAR_TYPES.get(meta["dtype"], f"type {meta['dtype']}"),
                             int(meta["storage_offset"]["as_int"]), *(tuple(int(n["as_int"]) for n in meta[k])
                                                                      for k in ("sizes", "strides")))
            yield _placed(path, name, tensor, places.get(f"{config.rpartition('/')[0]}/{tensor.key}"))


def _placed(path: Path, name: str, tensor: _Tensor, member: _Member | None) -> Held:
    dtype = _dtype(path, name, tensor.type)
    if member is None or member.info.compress_type != zipfile.ZIP_STORED:
        what = "is missing" if member is None else "is compressed"
        raise UnreadableModel(f"{path}: the storage of tensor {name!r} {what}, so it cannot be overwritten in place; "
                              "save the model again with torch")
    order = _order(tensor)
    if order is None:
        raise UnreadableModel(f"{path}: tensor {name!r} is a view with gaps (shape {list(tensor.shape)}, strides "
                              f"{list(tensor.strides)}); save the model with its tensors made contiguous")
    begin = tensor.offset * dtype.itemsize
    if begin + math.prod(tensor.shape) * dtype.itemsize > member.info.file_size:
        raise UnreadableModel(f"{path}: tensor {name!r} lies outside its storage; the file is damaged")
    return _held(path, name, dtype, tensor.shape, member.start + begin, order)


def _order(tensor: _Tensor) -> tuple[int, ...] | None:
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
    if type not in _TYPES:
        raise UnreadableModel(f"{path}: tensor {name!r} has the type {type}, which this version does not know")
    found: np.dtype[Any] = np.dtype(_TYPES[type])
    return found


def _named(value: Any, prefix: str, seen: set[int] | None = None) -> Iterator[tuple[str, _Tensor]]:
    """All tensors of an object, named by the way to them; Modules' own dictionaries leave no trace in the name."""
    seen = set() if seen is None else seen
    if isinstance(value, _Tensor):
        yield prefix, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, _Note):
        yield from _named(value.state, prefix, seen)
        yield from _named(value.args, prefix, seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = key in ("_parameters", "_buffers", "_modules")
            yield from _named(item, prefix if inner else f"{prefix}.{key}".lstrip("."), seen)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _named(item, f"{prefix}.{i}".lstrip("."), seen)


class _Note:
    """An object of the file, made in whatever way: what it was called with and the state it was given. Inert."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Note:
        """Note the arguments."""
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        """Note the state."""
        self.state = state

    def __call__(self, *args: Any) -> _Note:
        """Note that it was called, as methods that pickle looks up are."""
        return _Note(self, *args)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Containers of unknown classes hold no tensors that a model is made of."""


class _Dict(dict[Any, Any]):
    """A dictionary that takes a state and forgets it, as state dicts carry one."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Metadata; not needed."""


class _Notes(pickle.Unpickler):
    """Makes notes of a pickle; nothing that it names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of the file."""
        if name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _tensor
        if name == "_rebuild_qtensor":
            return _tensor
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda data, *_: data
        if name in ("OrderedDict", "dict", "defaultdict"):
            return lambda *_: _Dict()
        if name.endswith("Storage"):
            return _Type(name.removesuffix("Storage").lower())
        if module == "torch" and name in _TYPES:
            return _Type(name)
        return _Note

    def persistent_load(self, pid: Any) -> Any:
        """A storage: (type, key)."""
        return (pid[1].name if isinstance(pid[1], _Type) else "uint8", str(pid[2]))


@dataclass(frozen=True, slots=True)
class _Type:
    name: str


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    shape, strides = (tuple(int(n) for n in t) for t in (size, stride))
    return _Tensor(storage[1], storage[0], int(offset), shape, strides)
