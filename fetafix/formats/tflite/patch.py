"""Change a FlatBuffers file where it differs from what is wanted, and leave every other byte as it is.

What keeps its size (a scalar that is present, a vector of the same length) is overwritten in place. What does not is
written anew behind the end of the file, and the one reference to it is turned there: offsets in a FlatBuffer always
point forward, so a table, vector or string may move behind everything else, whereas what stays never moves. Only where
the vector of buffers itself has to grow is the file packed anew, since its elements could not point back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fetafix.errors import EditError
from fetafix.formats.tflite.schema import parse, schema

_ALIGN = 16
_UOFFSET = struct.Struct("<I")
_CODES = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip


def patched(original: bytes, wanted: Any) -> bytes:
    """The file that parses as the ModelT `wanted`, as close to `original` byte for byte as can be.

    Raises EditError where the outcome does not parse as wanted.
    """
    before = parse(original)
    if len(before.buffers) != len(wanted.buffers):
        result = _packed(wanted)
    else:
        patch = _Patch(original)
        patch.table(before, wanted, _UOFFSET.unpack_from(original, 0)[0])
        result = bytes(patch.data)
    if not equal(parse(result), wanted):
        raise EditError("the edited file does not read as intended, so nothing is written")
    return result


def equal(a: Any, b: Any) -> bool:
    """Whether two objects of the schema say the same; an absent vector or string equals an empty one."""
    if _table(a) and _table(b):
        return type(a) is type(b) and all(equal(v, getattr(b, k)) for k, v in vars(a).items())
    if _many(a) or _many(b):
        a, b = ([] if v is None else v for v in (a, b))
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            return len(a) == len(b) and bool(np.array_equal(np.asarray(a), np.asarray(b)))
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bytes | str) or isinstance(b, bytes | str):
        return _bytes(a) == _bytes(b)
    return bool(a == b) if not isinstance(a, float) or a == a else b != b


def _table(value: Any) -> bool:
    return value is not None and type(value).__name__.endswith("T") and hasattr(value, "Pack")


def _many(value: Any) -> bool:
    return isinstance(value, list | np.ndarray)


def _bytes(value: Any) -> bytes:
    return b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)


class _Patch:
    def __init__(self, original: bytes) -> None:
        self.data = bytearray(original)

    def table(self, old: Any, new: Any, at: int) -> bool:
        """Make the table at `at` say `new`; False where it has to be written anew."""
        if type(old) is not type(new):
            return False
        for name, was in vars(old).items():
            value = getattr(new, name)
            if not equal(was, value) and not self._field(old, name, was, value, at):
                return False
        return True

    def _field(self, owner: Any, name: str, old: Any, new: Any, at: int) -> bool:
        slot, flags = _slot(type(owner).__name__[:-1], name)
        where = self._position(at, slot)
        if where is None:
            return False
        if _table(old) or _table(new):
            return self._reference(old, new, where, self.table, _pack_table)
        if _many(old) or _many(new):
            elements: Any = next((v for v in (new, old) if v is not None and len(v)), [])
            if len(elements) and _table(elements[0]):
                return self._reference(old, new, where, self._tables, _pack_tables)
            return self._reference(old, new, where, self._vector, _pack_vector)
        if isinstance(old, bytes | str) or isinstance(new, bytes | str):
            return self._reference(old, new, where, lambda *_: False, _pack_string)
        struct.pack_into("<" + flags, self.data, where, new)
        return True

    def _position(self, at: int, slot: int) -> int | None:
        vtable = at - struct.unpack_from("<i", self.data, at)[0]
        size = struct.unpack_from("<H", self.data, vtable)[0]
        offset = struct.unpack_from("<H", self.data, vtable + slot)[0] if slot < size else 0
        return at + offset if offset else None

    def _reference(
        self, old: Any, new: Any, where: int, inside: Callable[[Any, Any, int], bool], pack: Callable[[Any, Any], int]
    ) -> bool:
        """What a field refers to: changed where it lies, or written anew behind the end."""
        if new is None:
            return False
        target = where + _UOFFSET.unpack_from(self.data, where)[0]
        if old is None or not inside(old, new, target):
            self._append(where, lambda builder: pack(builder, new))
        return True

    def _tables(self, old: Any, new: Any, at: int) -> bool:
        if len(old) != len(new):
            return False
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            if not equal(a, b):
                self._reference(a, b, at + 4 + 4 * i, self.table, _pack_table)
        return True

    def _vector(self, old: Any, new: Any, at: int) -> bool:
        old, new = np.asarray(old), np.asarray(new)
        if old.shape != new.shape:
            return False
        raw = new.astype(old.dtype).tobytes()
        self.data[at + 4 : at + 4 + len(raw)] = raw
        return True

    def _append(self, where: int, pack: Callable[[Any], int]) -> None:
        self.data += b"\0" * (-len(self.data) % _ALIGN)
        base = len(self.data)
        builder = _builder()
        builder.Finish(pack(builder))
        blob = bytes(builder.Output())
        self.data += blob
        _UOFFSET.pack_into(self.data, where, base + _UOFFSET.unpack_from(blob, 0)[0] - where)


def _builder() -> Any:
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        """Vectors of bytes lie on multiples of 16, as the schema asks of buffers."""

        def CreateNumpyVector(self, x: Any) -> int:
            if x.dtype == np.uint8:
                self.Prep(_ALIGN, x.nbytes)
            return int(super().CreateNumpyVector(np.ascontiguousarray(x)))

    builder = Builder(1024)
    builder.Prep(_ALIGN, 0)
    return builder


def _pack_table(builder: Any, value: Any) -> int:
    return int(value.Pack(builder))


def _pack_tables(builder: Any, values: Any) -> int:
    made = [v.Pack(builder) for v in values]
    builder.StartVector(4, len(made), 4)
    for offset in reversed(made):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _pack_vector(builder: Any, value: Any) -> int:
    array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int32)
    return int(builder.CreateNumpyVector(array))


def _pack_string(builder: Any, value: Any) -> int:
    return int(builder.CreateString(value))


def _packed(model: Any) -> bytes:
    builder = _builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@cache
def _slot(table: str, field: str) -> tuple[int, str]:
    """A field's place in its table's vtable and, for a scalar, its struct code, as the generated accessor asks for."""
    accessor = getattr(schema(), table)()
    accessor._tab = probe = _Probe()
    name = field[0].upper() + field[1:]
    try:
        getattr(accessor, name)()
    except TypeError:
        getattr(accessor, name)(0)
    return probe.slot, probe.code


class _Probe:
    """Stands in for a table and notes what an accessor wants from it."""

    Pos = 0
    Bytes = b"\0" * 64

    def __init__(self) -> None:
        self.slot, self.code = 0, ""

    def Offset(self, slot: int) -> int:
        self.slot = slot
        return 8

    def Get(self, flags: Any, _: int) -> int:
        self.code = _CODES[flags.__name__.removesuffix("Flags").lower()]
        return 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0
