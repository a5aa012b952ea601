"""The pickles of PyTorch's files, read into notes: which tensors there are, and in which storages.

No class of the file is imported and no function of it called; whatever is not a tensor or a plain container becomes a
`Note`. torch is not needed.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import ml_dtypes

TYPES: dict[str, Any] = {
    "float64": "<f8", "double": "<f8", "float32": "<f4", "float": "<f4", "float16": "<f2", "half": "<f2",
    "bfloat16": ml_dtypes.bfloat16, "int64": "<i8", "long": "<i8", "int32": "<i4", "int": "<i4", "int16": "<i2",
    "short": "<i2", "int8": "<i1", "char": "<i1", "uint8": "<u1", "byte": "<u1", "bool": "?", "qint8": "<i1",
    "quint8": "<u1", "qint32": "<i4", "complex64": "<c8", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """As the pickle describes it; sizes and strides in elements."""

    key: str
    type: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def named(value: Any, prefix: str, seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """All tensors of an object, named by the way to them; Modules' own dictionaries leave no trace in the name."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield prefix, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Note):
        yield from named(value.state, prefix, seen)
        yield from named(value.args, prefix, seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = key in ("_parameters", "_buffers", "_modules")
            yield from named(item, prefix if inner else f"{prefix}.{key}".lstrip("."), seen)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from named(item, f"{prefix}.{i}".lstrip("."), seen)


class Note:
    """An object of the file, made in whatever way: what it was called with and the state it was given. Inert."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Note:
        """Note the arguments."""
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        """Note the state."""
        self.state = state

    def __call__(self, *args: Any) -> Note:
        """Note that it was called, as methods that pickle looks up are."""
        return Note(self, *args)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Containers of unknown classes hold no tensors that a model is made of."""


class _Dict(dict[Any, Any]):
    """A dictionary that takes a state and forgets it, as state dicts carry one."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Metadata; not needed."""


class Notes(pickle.Unpickler):
    """Makes notes of a pickle; nothing that it names is imported or called."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.types: dict[str, str] = {}  # of each storage that was named

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
        if module == "torch" and name in TYPES:
            return _Type(name)
        return Note

    def persistent_load(self, pid: Any) -> Any:
        """A storage: (type, key). Old files name modules' source code in this way, too."""
        if pid[0] != "storage":
            return pid[1]
        name = pid[1].name if isinstance(pid[1], _Type) else "uint8"
        self.types[str(pid[2])] = name
        return name, str(pid[2])


@dataclass(frozen=True, slots=True)
class _Type:
    name: str


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    shape, strides = (tuple(int(n) for n in t) for t in (size, stride))
    return Tensor(storage[1], storage[0], int(offset), shape, strides)
