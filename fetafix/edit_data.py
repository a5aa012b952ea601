"""Edits and plain data, both ways, so that a plan can be stored, read by people, and replayed.

Plain data are what JSON holds. What JSON lacks is an object with one key that begins with "$": `$float` (NaN and
infinity), `$bytes` and `$text` (base64), `$array`, `$body`, `$node`, `$value`, `$graph`, `$dtype`, `$map`. Arrays are
little-endian bytes in C order with dtype and shape: small ones inline in base64, others in an `ArrayStore` by their
SHA-256. Nothing is pickled; reading a plan runs no code. A tuple and a list are both a JSON array, which reads back as
a tuple.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args

import ml_dtypes
import numpy as np

from fetafix.edits import Edit
from fetafix.errors import UsageError
from fetafix.ir import Array, Body, Graph, Node, Value

_INLINE_BYTES = 512
_KINDS: Mapping[str, type[Any]] = {kind.kind: kind for kind in get_args(Edit)}


class ArrayStore:
    """Raw bytes of arrays by their SHA-256; equal arrays are kept once."""

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        self.blobs: dict[str, bytes] = dict(blobs or {})

    def put(self, array: Array) -> dict[str, Any]:
        """What stands for the array in the plain data."""
        shape = list(array.shape)
        if array.dtype.kind in "OUST":
            return {"dtype": "string", "shape": shape, "text": [_encode(_text(v), self) for v in array.ravel()]}
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<") if array.dtype.kind != "V" else None)
        data = little.tobytes()
        digest = hashlib.sha256(data).hexdigest()
        entry: dict[str, Any] = {"dtype": array.dtype.newbyteorder("=").name, "shape": shape, "sha256": digest}
        if len(data) <= _INLINE_BYTES:
            entry["data"] = _b64(data)
        else:
            self.blobs[digest] = data
        return entry

    def get(self, data: Mapping[str, Any]) -> Array:
        """The array again. Raises UsageError where its bytes are missing, damaged or of another size."""
        shape = tuple(int(d) for d in data["shape"])
        if data["dtype"] == "string":
            items = np.empty(len(data["text"]), object)
            items[:] = [_decode(v, self) for v in data["text"]]
            return items.reshape(shape)
        dtype = dtype_of(data["dtype"])
        digest = data["sha256"]
        name = f"the array {digest[:12]}… ({dtype.name}{list(shape)})"
        raw = _unb64(data["data"]) if "data" in data else self.blobs.get(digest)
        if raw is None:
            raise UsageError(f"{name} is missing from the plan's array file")
        if hashlib.sha256(raw).hexdigest() != digest:
            raise UsageError(f"{name} of the plan was changed or damaged")
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise UsageError(f"{name} of the plan holds {len(raw)} bytes, which do not fit that shape")
        return np.frombuffer(raw, dtype).reshape(shape).copy()


def dtype_of(name: str) -> np.dtype[Any]:
    """A dtype by name, those of ml_dtypes included. Raises UsageError on an unknown name."""
    try:
        return np.dtype(getattr(ml_dtypes, name, None) or name)
    except TypeError as error:
        raise UsageError(f"the plan names an array type {name!r} that does not exist") from error


def edit_to_data(edit: Edit, store: ArrayStore) -> dict[str, Any]:
    """An edit as plain data: its `kind` and its fields."""
    return {"kind": edit.kind, **{f.name: _encode(getattr(edit, f.name), store) for f in fields(edit)}}


def edit_from_data(data: Mapping[str, Any], store: ArrayStore) -> Edit:
    """The edit again. Raises UsageError that says what does not fit."""
    kind = _KINDS.get(str(data.get("kind")))
    if kind is None:
        raise UsageError(f"unknown kind of edit {data.get('kind')!r}; known are {', '.join(_KINDS)}")
    return _record(kind, {k: v for k, v in data.items() if k != "kind"}, store)  # type: ignore[no-any-return]


def to_data(value: Any, store: ArrayStore) -> Any:
    """Plain data for any value that an edit may hold: numbers, text, arrays, nodes, graphs."""
    return _encode(value, store)


def from_data(data: Any, store: ArrayStore) -> Any:
    """The value again. Raises UsageError that says what does not fit."""
    return _decode(data, store)


def _record(kind: type[Any], data: Mapping[str, Any], store: ArrayStore) -> Any:
    known = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    for problem, names in (("unknown", data.keys() - known), ("missing", needed - data.keys())):
        if names:
            has = ", ".join(sorted(known))
            raise UsageError(f"{kind.__name__}: {problem} field {sorted(names)[0]!r} (it has {has})")
    return kind(**{k: _decode(v, store) for k, v in data.items()})


def _encode(value: Any, store: ArrayStore) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, str):
        return value if _is_utf8(value) else {"$text": _b64(value.encode("utf-8", "surrogateescape"))}
    if isinstance(value, list | tuple):
        return [_encode(v, store) for v in value]
    if isinstance(value, Mapping):
        plain = {k: _encode(v, store) for k, v in value.items()}
        return {"$map": plain} if any(k.startswith("$") for k in plain) else plain
    return _encode_record(value, store)


def _encode_record(value: Any, store: ArrayStore) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"$bytes": _b64(value)}
    if isinstance(value, np.ndarray):
        return {"$array": store.put(value)}
    if isinstance(value, np.dtype):
        return {"$dtype": value.newbyteorder("=").name}
    for tag, kind in _RECORDS.items():
        if isinstance(value, kind):
            return {tag: {f.name: _encode(getattr(value, f.name), store) for f in fields(value)}}
    raise TypeError(f"an edit holds a {type(value).__name__}, for which plain data have no form")


_RECORDS: Mapping[str, type[Any]] = {"$body": Body, "$node": Node, "$value": Value, "$graph": Graph}


def _decode(data: Any, store: ArrayStore) -> Any:
    if isinstance(data, list):
        return tuple(_decode(v, store) for v in data)
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        (tag, inner), = data.items()
        if tag in _RECORDS:
            return _record(_RECORDS[tag], inner, store)
        if tag in _SIMPLE:
            return _SIMPLE[tag](inner)
        if tag == "$array":
            return store.get(inner)
        if tag == "$map":
            data = inner
        elif tag.startswith("$"):
            raise UsageError(f"the plan holds a value of unknown kind {tag!r}")
    return {k: _decode(v, store) for k, v in data.items()}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UsageError(f"the plan holds damaged base64 data: {error}") from error


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


_SIMPLE: Mapping[str, Callable[[Any], Any]] = {
    "$float": float,
    "$bytes": _unb64,
    "$text": lambda text: _unb64(text).decode("utf-8", "surrogateescape"),
    "$dtype": dtype_of,
}
