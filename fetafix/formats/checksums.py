"""The checksums that a file format keeps of what it holds, after bytes of that were overwritten.

A zip archive (.keras, .pt) has those of its members, a TensorFlow checkpoint those of its variables in a file beside.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fetafix.formats.tensorflow import bundle
from fetafix.ir import Array

_LOCAL, _CENTRAL = 14, 16  # where the CRC-32 stands in a local header and in an entry of the central directory
_DESCRIPTOR, _MARK = 0x08, b"PK\x07\x08"
_BLOCK = 1 << 20


def renew(path: Path, offsets: Array) -> None:
    """Write the checksums of what holds one of these offsets, int64 (N,), anew; nothing where the format has none."""
    bundle.renew(path, offsets)
    with path.open("r+b") as file:
        if file.read(4) != b"PK\x03\x04":
            return
        with zipfile.ZipFile(file) as archive:
            members, directory = archive.infolist(), archive.start_dir
        at = directory
        for member in members:
            start = data_start(file, member)
            if np.any((offsets >= start) & (offsets < start + member.compress_size)):
                _renew(file, member, start, at)
            at += _entry_size(file, at)


def data_start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin in the archive."""
    file.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(member.header_offset + 30 + name + extra)


def _entry_size(file: BinaryIO, at: int) -> int:
    file.seek(at + 28)
    return 46 + int(sum(struct.unpack("<HHH", file.read(6))))


def _renew(file: BinaryIO, member: zipfile.ZipInfo, start: int, entry: int) -> None:
    crc, left = 0, member.compress_size
    file.seek(start)
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            return
        crc, left = zlib.crc32(block, crc), left - len(block)
    value = struct.pack("<I", crc)
    after = file.read(4)
    places = [entry + _CENTRAL]
    if member.flag_bits & _DESCRIPTOR:
        places.append(start + member.compress_size + (4 if after == _MARK else 0))
    else:
        places.append(member.header_offset + _LOCAL)
    for place in places:
        file.seek(place)
        file.write(value)
