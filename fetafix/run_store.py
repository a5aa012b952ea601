"""Runs of models kept as files: what a model answered to some feeds, found again by a key.

A store is a folder that anybody may delete. Each entry is one file: a line of JSON (a checksum of what follows, names,
dtypes, shapes, the model's info), then the arrays' bytes. Entries are written whole or not at all; a damaged one counts
as missing. The store stays within a bound: the entries that were used longest ago are deleted first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fetafix.errors import OutputError
from fetafix.files import replacing
from fetafix.ir import Array
from fetafix.report import ModelInfo

BYTES = 2 << 30
_VERSION = 1
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Runs that fetafix remembers; may be deleted at any time.\n"


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """What a model answered: outputs by name, and its info once it had run, where that was asked for."""

    outputs: Mapping[str, Array]
    info: ModelInfo | None = None


class _Held(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: list[int]


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    checksum: str
    arrays: list[_Held]
    info: ModelInfo | None = None


class RunStore:
    """Runs by key, in a folder, up to `most` bytes."""

    def __init__(self, folder: str | Path, most: int = BYTES) -> None:
        self.folder, self.most = Path(folder) / "runs", most
        self._written = False

    def get(self, key: str) -> Run | None:
        """What is known under a key; None for nothing, or nothing that can be read whole."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                head = msgspec.json.decode(file.readline(), type=_Head)
                body = bytearray(file.read())
            if head.version != _VERSION or _checksum(body) != head.checksum:
                return None
            run = Run(_arrays(head.arrays, body), head.info)
        except (OSError, ValueError, TypeError, msgspec.MsgspecError):
            return None
        with contextlib.suppress(OSError):  # a store that may only be read serves as well
            os.utime(path)  # it is in use
        return run

    def put(self, key: str, run: Run) -> None:
        """Remember a run. Where there is no room, or values are no numbers, nothing happens: it is only a memory."""
        values = {n: np.asarray(v, order="C") for n, v in run.outputs.items()}
        if any(v.dtype.hasobject for v in values.values()) or sum(v.nbytes for v in values.values()) > self.most // 4:
            return
        body = b"".join(v.tobytes() for v in values.values())
        held = [_Held(n, _name(v.dtype), list(v.shape)) for n, v in values.items()]
        head = _Head(version=_VERSION, checksum=_checksum(body), arrays=held, info=run.info)
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(msgspec.json.encode(head) + b"\n" + body)
            self._written = True

    def trim(self) -> None:
        """Delete what was used longest ago until the rest is within the bound; only after something was written."""
        if not self._written:
            return
        self._written = False
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


def prepared(folder: str | Path) -> Path:
    """A folder for a store, made where it is not there. Raises OutputError."""
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tag = folder / "CACHEDIR.TAG"  # by which programs for backups know a cache
        if not tag.exists():
            tag.write_text(_TAG, "ascii")
    except OSError as error:
        raise OutputError(f"runs cannot be remembered in {folder}: {error.strerror}; name another folder with --cache, "
                          "or say --no-cache") from error
    return folder


def _checksum(body: bytes | bytearray) -> str:
    return hashlib.sha256(body).hexdigest()


def _name(dtype: np.dtype[np.generic]) -> str:
    """The dtype's name; the formats that numpy itself lacks (bfloat16) come by name as well."""
    return dtype.name if dtype.kind == "V" else dtype.str


def _arrays(held: list[_Held], body: bytearray) -> dict[str, Array]:
    """The arrays of a body. Raises ValueError or TypeError where they do not fit it."""
    import ml_dtypes  # noqa: F401 - makes its dtypes known to numpy by name

    found, at = {}, 0
    for h in held:
        dtype = np.dtype(h.dtype)
        count = int(np.prod(h.shape, dtype=np.int64))
        found[h.name] = np.frombuffer(body, dtype, count, at).reshape(h.shape) if count else np.empty(h.shape, dtype)
        at += count * dtype.itemsize
    if at != len(body):
        raise ValueError(f"expected {at} bytes, found {len(body)}")
    return found


def default_folder() -> Path:
    """`FETAFIX_CACHE`, else the user's folder for caches on this system."""
    named = os.environ.get("FETAFIX_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fetafix"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fetafix" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fetafix"
