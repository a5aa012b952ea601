"""TensorFlow's checkpoints as bytes: where each variable lies in which file, told without TensorFlow.

`prefix.index` is a table of keys in order, as LevelDB writes them (tensorflow/core/lib/io/table_format.txt): blocks of
entries, whose keys share beginnings, and a footer that says where the block with the places of all others is. A value
is a BundleEntryProto (tensor_bundle.proto): shape, shard, offset. Variables and blocks bear masked CRC-32C checksums,
all of which TensorFlow verifies.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fetafix.errors import UnreadableModel
from fetafix.formats.onnx.scan import BYTES, FIXED32, VARINT, Malformed, fields, varint
from fetafix.ir import Array

_FOOTER, _MAGIC, _TRAILER, _PLAIN = 48, 0xDB4775248B80FB57, 5, 0
_SHARD = re.compile(r"(?P<stem>.+)\.data-(?P<shard>\d{5})-of-\d{5}")
_MASK, _WORD = 0xA282EAD8, 0xFFFFFFFF
_PARTS, _LITTLE = 7, 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A variable. type: number of its DataType; path: of the shard, where `size` bytes begin at `offset`. crc: where
    its checksum stands in the index; block: (start, bytes) of the block of the index that it stands in. whole: False
    for one whose slices are entries of their own.
    """

    key: str
    type: int
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int
    crc: int
    block: tuple[int, int]
    whole: bool = True


def entries(prefix: Path) -> dict[str, Entry]:
    """The variables of a checkpoint `prefix`.index, by their keys. Raises UnreadableModel where it is damaged."""
    index = prefix.with_name(f"{prefix.name}.index")
    with index.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _entries(prefix, data)
        except (Malformed, struct.error, IndexError):
            raise UnreadableModel(f"{index}: expected the table of a TensorFlow checkpoint, found a damaged or "
                                  "compressed one; copy or download the folder again") from None


def renew(shard: Path, offsets: Array) -> None:
    """Write the checksums of the variables that hold these offsets (int64, any order) anew; nothing for other files."""
    name = _SHARD.fullmatch(shard.name)
    if name is None:
        return
    where = np.sort(offsets)
    prefix = shard.with_name(name["stem"])
    struck = [e for e in entries(prefix).values() if e.path == shard and _hit(where, e)]
    with shard.open("rb") as data, prefix.with_name(f"{prefix.name}.index").open("r+b") as index:
        for entry in struck:
            data.seek(entry.offset)
            _write(index, entry.crc, data.read(entry.size))
        for start, size in {e.block for e in struck}:
            index.seek(start)
            _write(index, start + size + 1, index.read(size + 1))


def _hit(where: Array, entry: Entry) -> bool:
    first, last = np.searchsorted(where, [entry.offset, entry.offset + entry.size])
    return bool(last > first)


def _write(file: BinaryIO, at: int, covered: bytes) -> None:
    """The masked checksum of bytes, as crc32c.h of TensorFlow defines it."""
    import google_crc32c

    crc = int(google_crc32c.value(covered))
    masked = (((crc >> 15) | (crc << 17)) + _MASK) & _WORD
    file.seek(at)
    file.write(struct.pack("<I", masked))


def _entries(prefix: Path, data: mmap.mmap) -> dict[str, Entry]:
    end = len(data)
    if end < _FOOTER or struct.unpack("<Q", data[end - 8 : end])[0] != _MAGIC:
        raise Malformed
    _, at = _handle(data, end - _FOOTER, end)
    (start, size), _ = _handle(data, at, end)
    found: dict[str, Entry] = {}
    shards = 1
    for _, (a, b) in _block(data, start, size):
        place, _ = _handle(data, a, b)
        for key, (first, last) in _block(data, *place):
            if not key:
                shards = _header(data, first, last)
            else:
                found[key.decode()] = _entry(prefix, shards, key.decode(), data, first, last, place)
    return found


def _handle(data: mmap.mmap, at: int, end: int) -> tuple[tuple[int, int], int]:
    """((start, bytes) of a block, where its handle ends)."""
    start, at = varint(data, at, end)
    size, at = varint(data, at, end)
    return (start, size), at


def _block(data: mmap.mmap, start: int, size: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """(key, (start, end) of its value) of each entry; behind them lie places of whole keys, not needed here."""
    if start + size + _TRAILER > len(data) or data[start + size] != _PLAIN:
        raise Malformed
    stop = start + size
    end = stop - 4 - 4 * struct.unpack("<I", data[stop - 4 : stop])[0]
    at, key = start, b""
    while at < end:
        shared, at = varint(data, at, end)
        own, at = varint(data, at, end)
        length, at = varint(data, at, end)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, (at, at + length)
        at += length


def _header(data: mmap.mmap, start: int, end: int) -> int:
    """BundleHeaderProto: num_shards 1, endianness 2."""
    known = {n: a for n, w, a, _ in fields(data, start, end) if w == VARINT}
    if known.get(2, _LITTLE) != _LITTLE:
        raise Malformed
    return known.get(1, 1)


def _entry(
    prefix: Path, shards: int, key: str, data: mmap.mmap, start: int, end: int, block: tuple[int, int]
) -> Entry:
    """BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6, slices 7."""
    numbers, shape, crc, whole = dict[int, int](), tuple[int, ...](), end, True
    for number, wire, a, b in fields(data, start, end):
        if wire == VARINT:
            numbers[number] = a
        elif (number, wire) == (2, BYTES):
            shape = dims(data, a, b)
        elif (number, wire) == (6, FIXED32):
            crc = b - 4
        elif number == _PARTS:
            whole = False
    shard = prefix.with_name(f"{prefix.name}.data-{numbers.get(3, 0):05d}-of-{shards:05d}")
    return Entry(key, numbers.get(1, 0), shape, shard, numbers.get(4, 0), numbers.get(5, 0), crc, block, whole)


def dims(data: mmap.mmap, start: int, end: int) -> tuple[int, ...]:
    """The sizes of a TensorShapeProto: dim 2, of which size 1."""
    found = []
    for number, wire, a, b in fields(data, start, end):
        if (number, wire) == (2, BYTES):
            found.append(next((c for n, w, c, _ in fields(data, a, b) if (n, w) == (1, VARINT)), 0))
    return tuple(found)
