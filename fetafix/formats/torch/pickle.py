"""Read a pickle of torch.save without running anything from it.

The unpickler makes *inert* objects only: plain containers, tensors, and `Record`s that note which class the file
names and which state it would have had. Nothing named in the file is imported, called or instantiated here.
`build` then examines the records and builds real modules from those that consist of allowed parts.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fetafix.errors import UnreadableModel, UntrustedModel
from fetafix.formats.torch import allow as torch_allow

_MAX_ELEMENTS = 1 << 40


class Record:
    """An object of the file: its class by name, its construction arguments and its state. Inert."""

    __slots__ = ("args", "home", "name", "state")

    home: str
    name: str
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        """Note the arguments; nothing is done with them."""
        record = object.__new__(cls)
        record.home, record.name = cls._home, cls._name  # type: ignore[attr-defined]
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        """Note the state."""
        self.state = state

    @property
    def qualified(self) -> str:
        """The class as the file names it."""
        return f"{self.home}.{self.name}"


def _record_class(home: str, name: str) -> type[Record]:
    return type("Record", (Record,), {"_home": home, "_name": name, "__slots__": ()})


@dataclass(frozen=True, slots=True)
class Reference:
    """A global that the file names and that is neither a class nor a constructor of plain data: a function, a dtype."""

    home: str
    name: str

    @property
    def qualified(self) -> str:
        """As the file names it."""
        return f"{self.home}.{self.name}"


class Held:
    """A tensor or a storage of the file, out of reach of the pickle's BUILD (Tensor.__setstate__ would obey it)."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        """Tensors have no further state."""
        raise pickle.UnpicklingError("the pickle sets the state of a tensor")


class Ordered(dict[Any, Any]):
    """collections.OrderedDict without an instance dictionary, so that a pickle cannot put attributes on it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """The metadata that state dicts carry; not needed."""


def load(path: Path) -> Any:
    """The pickled object of a torch.save file as inert data.

    Raises UntrustedModel where the pickle calls something that is not on the list, UnreadableModel where it is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            return _load_zip(path)
        return _load_legacy(path)
    except (UntrustedModel, UnreadableModel):
        raise
    except Exception as error:  # a damaged pickle can fail in any way whatever
        raise UnreadableModel(f"{path}: damaged torch.save file: {type(error).__name__}: {error}") from error


def refuse(path: Path, what: str) -> UntrustedModel:
    """The error for a file that holds more than data."""
    return UntrustedModel(
        f"{path}: {what}. Opening it would run code from the file. Expected: a module made of torch.nn and onnx2torch "
        f"layers, a state dict (with --arch module:factory), TorchScript or .pt2. If you trust where the file comes "
        f"from, add --trust."
    )


def _load_zip(path: Path) -> Any:
    import torch

    reader: Any = torch._C.PyTorchFileReader(str(path))
    if reader.has_record("byteorder") and reader.get_record("byteorder").decode() != sys.byteorder:
        raise UnreadableModel(f"{path}: written on a machine with another byte order")

    def storage(key: str, dtype: torch.dtype, elements: int) -> torch.Tensor:
        size = reader.get_record_size(f"data/{key}")
        if size < elements * dtype.itemsize:
            raise UnreadableModel(f"{path}: storage {key} holds {size} bytes, {elements * dtype.itemsize} expected")
        raw = reader.get_storage_from_record(f"data/{key}", elements, dtype)
        return torch.empty(0, dtype=dtype).set_(raw.untyped_storage(), 0, (elements,), (1,))

    return _Unpickler(io.BytesIO(reader.get_record("data.pkl")), path, storage).load()


def _load_legacy(path: Path) -> Any:
    """The format of before torch 1.6: object, then the list of storage keys, then the storages' bytes one by one."""
    import torch

    made: dict[str, torch.Tensor] = {}

    def storage(key: str, dtype: torch.dtype, elements: int) -> torch.Tensor:
        if elements * dtype.itemsize > path.stat().st_size:
            raise UnreadableModel(f"{path}: storage {key} of {elements} elements is larger than the file")
        return made.setdefault(key, torch.empty(elements, dtype=dtype))

    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file, path, storage).load()
        result = _Unpickler(file, path, storage).load()
        for key in _Unpickler(file, path, storage).load():
            count = int.from_bytes(file.read(8), "little")
            target = made[key]
            data = file.read(count * target.dtype.itemsize)
            if count != target.numel() or len(data) < count * target.dtype.itemsize:
                raise UnreadableModel(f"{path}: truncated: storage {key} is incomplete")
            if count:
                target.copy_(torch.frombuffer(bytearray(data), dtype=target.dtype))
    return result


class _Unpickler(pickle.Unpickler):
    """Resolves every global to something inert, every tensor to a checked view of its storage."""

    def __init__(self, file: IO[bytes], path: Path, storage: Callable[[str, Any, int], Any]) -> None:
        super().__init__(file, encoding="utf-8")
        self._path, self._storage = path, storage
        self._storages: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Never imports: known constructors, classes as `Record`s, allowed functions as `Reference`s."""
        special = self._special(module, name)
        if special is not None:
            return special
        if (module, name) == ("collections", "OrderedDict"):
            return Ordered
        if (module, name) in torch_allow.PLAIN:
            return torch_allow.PLAIN[module, name]
        dtype = _dtype(module, name)
        if dtype is not None:
            return dtype
        if torch_allow.layer(module, name) or torch_allow.enum(module, name):
            return _record_class(module, name)
        if torch_allow.function(module, name) or (module, name) == ("torch._C", "_VariableFunctionsClass"):
            return Reference(module, name)
        raise refuse(self._path, f"its pickle names {module}.{name}, which is not on the list of allowed parts")

    def _special(self, module: str, name: str) -> Any:
        if module in ("builtins", "__builtin__") and name == "getattr":
            return self._function_of
        if (module, name) == ("torch.fx.graph_module", "reduce_graph_module"):
            return self._graph_module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_tensor"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._parameter
        if (module, name) == ("torch", "Size"):
            return lambda dims=(): tuple(int(d) for d in dims)
        if (module, name) == ("functools", "partial"):
            return _record_class(module, name)
        if (module, name) == ("torch.fx._symbolic_trace", "Tracer"):
            return Reference(module, name)
        return None

    def _function_of(self, owner: Any, name: str) -> Reference:
        """How pickle writes torch's built-in functions: getattr(torch._C._VariableFunctionsClass, "add")."""
        known = isinstance(owner, Reference) and owner == Reference("torch._C", "_VariableFunctionsClass")
        if not known or not torch_allow.function("torch", name):
            raise refuse(self._path, f"its pickle calls getattr for {name!r}")
        return Reference("torch", name)

    def _graph_module(self, body: Any, imports: Any) -> Record:
        record = _record_class("torch.fx.graph_module", "GraphModule")(imports)
        record.state = body
        return record

    def persistent_load(self, pid: Any) -> Any:
        """A storage by its key."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise UnreadableModel(f"{self._path}: unknown persistent id in the pickle")
        _, dtype, key, _, elements = pid[:5]
        if len(pid) > 5 and pid[5] is not None:
            raise UnreadableModel(f"{self._path}: storage views of old files are not supported; save the model again")
        if not isinstance(key, str) or not isinstance(elements, int) or not 0 <= elements < _MAX_ELEMENTS:
            raise UnreadableModel(f"{self._path}: damaged storage entry {key!r}")
        if key not in self._storages:
            self._storages[key] = Held(self._storage(key, dtype, elements))
        return self._storages[key]

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Held:
        import torch

        flat = storage.tensor if isinstance(storage, Held) else None
        size, stride = tuple(int(s) for s in size), tuple(int(s) for s in stride)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else 0
        if flat is None or min((offset, *size, *stride)) < 0 or last >= max(flat.numel(), 1):
            raise UnreadableModel(f"{self._path}: a tensor of shape {list(size)} lies outside its storage")
        return Held(torch.as_strided(flat, size, stride, offset))

    def _parameter(self, data: Any, requires_grad: bool = False, *_: Any) -> Held:
        import torch

        if not isinstance(data, Held):
            raise UnreadableModel(f"{self._path}: a parameter holds no tensor")
        floating = data.tensor.is_floating_point()
        return Held(torch.nn.Parameter(data.tensor, requires_grad=bool(requires_grad) and floating))


def _dtype(module: str, name: str) -> Any:
    """torch.float32 … and the storage classes that stand for a dtype."""
    import torch

    if module not in ("torch", "torch.storage"):
        return None
    if name.endswith("Storage"):
        names = {
            "Float": "float32",
            "Double": "float64",
            "Half": "float16",
            "BFloat16": "bfloat16",
            "Long": "int64",
            "Int": "int32",
            "Short": "int16",
            "Char": "int8",
            "Byte": "uint8",
            "Bool": "bool",
            "Untyped": "uint8",
        }
        return getattr(torch, names[name[:-7]]) if name[:-7] in names else None
    value = vars(torch).get(name)
    return value if isinstance(value, torch.dtype) else None
