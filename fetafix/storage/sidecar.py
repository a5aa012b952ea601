r"""A file beside any file that restores it bit by bit: Reed-Solomon check bytes, themselves protected.

Layout, all numbers little-endian:

    3 × 64 bytes   the header, three times over, read by majority of each bit:
        0   8   b"FETAFIX\x01"
        8   4   check bytes a codeword (16: RS(255, 239), mends 8 wrong bytes of 255)
       12   4   codewords a segment
       16   8   size of the protected file in bytes
       24  32   its SHA-256
       56   8   zeros
    then for each segment of codewords · (255 − checks) bytes of the file (the last may be shorter): its check bytes,
    uint8 (checks, codewords of that segment), codeword j of which holds the segment's bytes j, j + count, …

Check bytes are part of the codewords, so that faults in them are mended as those in the file are. Segments bound the
memory that restoring takes; within one, codewords interleave, so that a burst strikes many of them a little. The code
is that of `reed_solomon`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fetafix.errors import UnreadableModel
from fetafix.storage.left_over import byte_rate, tail
from fetafix.storage.reed_solomon import check_bytes, codewords, restore
from fetafix.storage.reed_solomon_decoder import LENGTH

Array = npt.NDArray[Any]
SUFFIX = ".fetafix-rs"
MAGIC = b"FETAFIX\x01"
_HEADER = struct.Struct("<8sIIQ32s8x")
_SEGMENT = 1 << 16  # codewords


@dataclass(frozen=True, slots=True)
class Header:
    """What the sidecar says of the file. size: in bytes."""

    checks: int
    segment: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of restoring. mended, lost: codewords; exact: whether the file's SHA-256 is the clean one's."""

    mended: int
    lost: int
    exact: bool


def write(file: Path, out: BinaryIO, checks: int = 16) -> None:
    """Write the sidecar of a file."""
    digest, size = hashlib.sha256(), file.stat().st_size
    out.write(bytes(3 * _HEADER.size))
    for block in _segments(file, _SEGMENT * (LENGTH - checks)):
        digest.update(block)
        out.write(np.ascontiguousarray(check_bytes(np.frombuffer(block, np.uint8), checks).T).tobytes())
    out.seek(0)
    out.write(_HEADER.pack(MAGIC, checks, _SEGMENT, size, digest.digest()) * 3)


def header(sidecar: Path) -> Header:
    """The header, by majority. Raises UnreadableModel where it is none."""
    with sidecar.open("rb") as stream:
        raw = stream.read(3 * _HEADER.size)
    if len(raw) < 3 * _HEADER.size:
        raise UnreadableModel(f"{sidecar}: expected a sidecar of fetafix, found {len(raw)} bytes")
    magic, checks, segment, size, sha256 = _HEADER.unpack(majority(raw))
    fits = magic == MAGIC and checks % 2 == 0 and 2 <= checks <= 128 and segment > 0
    if not fits or sidecar.stat().st_size != len(raw) + _length(size, checks, segment):
        raise UnreadableModel(f"{sidecar}: this is no sidecar of fetafix, or it is cut off or damaged beyond repair")
    return Header(checks, segment, size, sha256)


def majority(raw: bytes) -> bytes:
    """Three copies, one behind the other → what two of them say, bit by bit."""
    a, b, c = np.frombuffer(raw, np.uint8).reshape(3, -1)
    return bytes((a & b | b & c | a & c).tobytes())


def mend(file: Path, sidecar: Path, out: BinaryIO) -> Restored:
    """Write the file as it was to `out`. What cannot be mended stays as it is.

    Raises UnreadableModel where the sidecar is none, or the file has another size than it had.
    """
    known, mended, lost, digest = header(sidecar), 0, 0, hashlib.sha256()
    if file.stat().st_size != known.size:
        raise UnreadableModel(f"{file}: expected {known.size:,} bytes as {sidecar.name} says, found "
                              f"{file.stat().st_size:,}; bit flips do not change a size: this is another file")
    with sidecar.open("rb") as checks:
        checks.seek(3 * _HEADER.size)
        for block in _segments(file, known.segment * (LENGTH - known.checks)):
            count = codewords(len(block), known.checks)
            own = np.frombuffer(checks.read(count * known.checks), np.uint8).reshape(known.checks, count).T
            whole, done, left = restore(np.frombuffer(block, np.uint8), np.ascontiguousarray(own))
            mended, lost = mended + done, lost + left
            digest.update(whole.tobytes())
            out.write(whole.tobytes())
    return Restored(mended, lost, digest.digest() == known.sha256)


def expected_lost(size: int, checks: int, ber: float) -> float:
    """How many codewords of a file of so many bytes are beyond repair at a bit-error rate, on average.

    The number of wrong bytes of 255 is binomial with a rate of 1 − (1 − BER)⁸ each.
    """
    return codewords(size, checks) * tail(LENGTH, checks // 2 + 1, byte_rate(ber))


def _length(size: int, checks: int, segment: int) -> int:
    whole, rest = divmod(size, segment * (LENGTH - checks))
    return (whole * segment + codewords(rest, checks)) * checks


def _segments(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(size):
            yield block
