"""From inert records to real modules: every class, function and attribute is examined before anything is made.

What could carry code into a module whose classes are all harmless: hooks, attributes that shadow methods (`forward`),
callables as attributes, names that break out of the source which torch.fx generates. Each is refused.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.torch import allow as torch_allow
from fetafix.formats.torch import forward as torch_forward
from fetafix.formats.torch.pickle import Held, Record, Reference, refuse

_TABLES = {"_parameters", "_buffers", "_modules"}
_GRAPH_ONLY = {
    "_code",
    "code",
    "_lineno_map",
    "_prologue_start",
    "_tracer_cls",
    "_tracer_extras",
    "_graphmodule_cls_name",
    "meta",
    "_replace_hooks",
    "_create_node_hooks",
    "_erase_node_hooks",
    "_deepcopy_hooks",
    "shape_env",
    "_in_spec",
    "_out_spec",
    "_graphmodule_graph_node_meta_stack_trace",
    "_codegen",
}
# torch.fx writes these names between double quotes into the source that it compiles.
_BREAKING = re.compile(r"[\"\\\x00-\x1f{}]")


def build(record: Any, path: Path) -> Any:
    """The nn.Module that a record describes. Raises UntrustedModel where it holds anything that is not allowed."""
    return _Builder(path).module(record)


class _Builder:
    """One file's records; modules and tensors that the file shares stay shared."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[int, Any] = {}

    def module(self, record: Any) -> Any:
        if not isinstance(record, Record):
            raise refuse(self._path, f"it holds a {type(record).__name__} where a module is expected")
        if id(record) not in self._made:
            kind = record.qualified
            make = self._graph_module if kind == "torch.fx.graph_module.GraphModule" else self._layer
            self._made[id(record)] = make(record)
        return self._made[id(record)]

    def _layer(self, record: Record) -> Any:
        cls = torch_allow.layer(record.home, record.name)
        if cls is None or record.args:
            raise refuse(self._path, f"{record.qualified} is not an allowed layer, or is built with arguments")
        module: Any = object.__new__(cls)
        module.__dict__.update(_blank())
        module.__setstate__(self._state(record, cls))
        return module

    def _graph_module(self, record: Record) -> Any:
        import torch

        state = record.state if isinstance(record.state, dict) else {}
        source, imports = state.get("_code") or state.get("code"), record.args[0] if record.args else ""
        if not isinstance(source, str) or not isinstance(imports, str):
            raise UnreadableModel(f"{self._path}: a GraphModule without source")
        root: Any = torch.nn.Module()
        root.__setstate__(self._state(record, torch.fx.GraphModule))
        graph = torch_forward.rebuild(source, root, self._path)
        name = state.get("_graphmodule_cls_name", "GraphModule")
        module = torch.fx.GraphModule(
            root, graph, name if isinstance(name, str) and name.isidentifier() else "GraphModule"
        )
        for table in _TABLES:
            for key, value in getattr(root, table).items():
                getattr(module, table).setdefault(key, value)
        for key in root.__dict__.keys() - _blank().keys() - module.__dict__.keys():
            module.__dict__[key] = root.__dict__[key]
        return module

    def _state(self, record: Record, cls: type) -> dict[str, Any]:
        if not isinstance(record.state, dict):
            raise refuse(self._path, f"{record.qualified} has a state that is no dict")
        state: dict[str, Any] = {}
        blank = _blank()
        for key, value in record.state.items():
            where = f"{record.qualified}.{key}"
            if not isinstance(key, str) or _BREAKING.search(key):
                raise refuse(self._path, f"{record.qualified} has an attribute named {key!r}")
            if key == "__overloads__" or (cls.__name__ == "GraphModule" and key in _GRAPH_ONLY):
                continue
            if key in _TABLES:
                state[key] = self._table(key, value, where)
            elif _is_hook(key):
                if value and value is not True:
                    raise refuse(self._path, f"{where} holds hooks, which are code")
                state[key] = value if isinstance(value, bool | None) else blank.get(key, {})
            else:
                state[key] = self._attribute(key, value, cls, where)
        return state

    def _table(self, table: str, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refuse(self._path, f"{where} is no dict")
        made: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str) or _BREAKING.search(key) or "." in key:
                raise refuse(self._path, f"{where} has an entry named {key!r}")
            if item is None:
                made[key] = None
            elif table == "_modules":
                made[key] = self.module(item)
            elif isinstance(item, Held):
                made[key] = item.tensor
            else:
                raise refuse(self._path, f"{where}[{key!r}] holds a {type(item).__name__} where a tensor is expected")
        return made

    def _attribute(self, key: str, value: Any, cls: type, where: str) -> Any:
        shadowed = getattr(cls, key, None)
        if key.startswith("__") or callable(shadowed) or isinstance(shadowed, property | classmethod | staticmethod):
            raise refuse(self._path, f"{where} would replace a method of the class")
        return self._plain(value, where)

    def _plain(self, value: Any, where: str) -> Any:
        """Data as data; the few allowed functions; everything else is refused."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if isinstance(value, dict):
            return {self._plain(k, where): self._plain(v, where) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            kind = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k))
            return kind(self._plain(v, where) for v in value)
        if isinstance(value, Held):
            return value.tensor
        if isinstance(value, Reference):
            function = torch_allow.function(value.home, value.name)
            if function is not None:
                return function
        if isinstance(value, Record):
            return self._object(value, where)
        if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
            return value
        name = value.qualified if isinstance(value, Reference) else type(value).__name__
        raise refuse(self._path, f"{where} holds a {name}, which is not data")

    def _object(self, record: Record, where: str) -> Any:
        if record.qualified == "functools.partial" and isinstance(record.state, tuple) and len(record.state) == 4:
            function, args, kwargs, _ = (self._plain(v, where) for v in record.state)
            return functools.partial(function, *args, **kwargs)
        enum = torch_allow.enum(record.home, record.name)
        if enum is not None and len(record.args) == 1 and record.state is None:
            return enum(self._plain(record.args[0], where))
        raise refuse(self._path, f"{where} holds an object of class {record.qualified}")


def _blank() -> dict[str, Any]:
    """The attributes of a bare nn.Module of this PyTorch."""
    import torch

    return dict(torch.nn.Module().__dict__)


def _is_hook(key: str) -> bool:
    return "hook" in key and key.startswith("_")
