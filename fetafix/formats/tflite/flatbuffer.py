"""Flatbuffers read with every offset checked: a file that is cut off or lies gives an error, never a crash or a hang.

The generated classes of the schema trust the file. This reader checks that each table, vtable, vector and string lies
within the file before it touches it, and that no more is read than a file of this size can hold, however its offsets
point at each other. Layout: https://flatbuffers.dev/internals/ ; all numbers little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from fetafix.ir import Array

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_SHARED = 16
_FIXED = 1 << 20


class Broken(Exception):
    """What was expected at which position, and what was found."""


class Reader:
    """A flatbuffer in memory. `limit` is where the file's structure ends (data may follow it)."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.limit = len(self.data)
        self._budget = _SHARED * self.limit + _FIXED

    def root(self) -> Table:
        """The root table, behind the offset that begins the file."""
        return Table(self, self.follow(0, "the root table"), "the root table")

    def number(self, form: struct.Struct, at: int, what: str) -> int | float:
        """A number at a position."""
        self.check(at, form.size, what)
        return form.unpack_from(self.data, at)[0]  # type: ignore[no-any-return]

    def follow(self, at: int, what: str) -> int:
        """Where an offset at a position points."""
        self.check(at, 4, what)
        to = at + int(_U32.unpack_from(self.data, at)[0])
        if to == at or to + 4 > self.limit:
            raise Broken(f"{what}: expected an offset into the {self.limit:,} bytes of the file, found one to {to:,}")
        return to

    def check(self, at: int, size: int, what: str) -> None:
        """Raise Broken where bytes are not within the file."""
        if at < 0 or size < 0 or at + size > self.limit:
            raise Broken(f"{what}: expected bytes {at:,} to {at + size:,}, but the file ends at {self.limit:,}")

    def vector(self, at: int, item: int, what: str) -> tuple[int, int]:
        """(first item's position, number of items) of a vector whose length stands at `at`."""
        count = int(self.number(_U32, at, what))
        self.check(at + 4, count * item, f"{what} ({count:,} items)")
        self._budget -= count * item + 4
        if self._budget < 0:
            raise Broken(f"{what}: the same bytes are read again and again, as no file written by a converter asks for")
        return at + 4, count


class Table:
    """A table: fields by their number in the schema."""

    __slots__ = ("_fields", "_size", "at", "reader", "what")

    def __init__(self, reader: Reader, at: int, what: str) -> None:
        self.reader, self.at, self.what = reader, at, what
        back = int(reader.number(_I32, at, what))
        vtable = at - back
        size = int(reader.number(_U16, vtable, f"the layout of {what}"))
        if size < 4 or size % 2:
            raise Broken(f"the layout of {what}: expected an even size of at least 4, found {size}")
        reader.check(vtable, size, f"the layout of {what}")
        self._size = int(_U16.unpack_from(reader.data, vtable + 2)[0])
        reader.check(at, self._size, what)
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", reader.data, vtable + 4)

    def has(self, field: int) -> int:
        """Where a field stands; 0 where it is left out."""
        offset = self._fields[field] if field < len(self._fields) else 0
        if not offset:
            return 0
        if offset >= self._size:
            raise Broken(f"{self.what}: expected field {field} within its {self._size} bytes, found offset {offset}")
        return int(self.at + offset)

    def integer(self, field: int, form: str, default: int = 0) -> int:
        """An integer field; `form` as in `struct`."""
        at = self.has(field)
        return int(self.reader.number(struct.Struct("<" + form), at, self.what)) if at else default

    def numbers(self, field: int, dtype: str, name: str = "") -> Array | None:
        """A vector of numbers as a view of the file; None where it is left out."""
        at = self.has(field)
        if not at:
            return None
        what, item = self._named(field, name), np.dtype(dtype)
        first, count = self.reader.vector(self.reader.follow(at, what), item.itemsize, what)
        return np.frombuffer(self.reader.data, item, count, first)

    def span(self, field: int, name: str = "") -> tuple[int, int]:
        """(position, length) of a vector of bytes; (0, 0) where it is left out or empty."""
        at = self.has(field)
        if not at:
            return 0, 0
        what = self._named(field, name)
        first, count = self.reader.vector(self.reader.follow(at, what), 1, what)
        return (first, count) if count else (0, 0)

    def text(self, field: int, name: str = "") -> str:
        """A string; "" where it is left out. Bytes that are no UTF-8 are shown as escapes."""
        first, count = self.span(field, name)
        return bytes(self.reader.data[first : first + count]).decode("utf-8", "backslashreplace")

    def table(self, field: int, name: str) -> Table | None:
        """A table that a field points at."""
        at = self.has(field)
        return Table(self.reader, self.reader.follow(at, name), name) if at else None

    def tables(self, field: int, name: str) -> Iterator[Table]:
        """The tables of a vector."""
        at = self.has(field)
        if not at:
            return
        first, count = self.reader.vector(self.reader.follow(at, f"the {name}s"), 4, f"the {name}s")
        for i in range(count):
            what = f"{name} {i}"
            yield Table(self.reader, self.reader.follow(first + 4 * i, what), what)

    def _named(self, field: int, name: str) -> str:
        return f"{name or f'field {field}'} of {self.what}"
