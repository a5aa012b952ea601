"""The journal: an append-only file of JSON lines that tells everything a run tried, for people and auditors.

Every line is one object: `time` (UTC, ISO 8601), `event`, and what belongs to it. The first line of a run is `start`
with the versions in use. Reports carry no times, so two runs with the same seed make the same report, and their
journals differ in nothing but `time`, and in `ranked` and `counted` where the user's statistics grew in between.

A line is written by a single call under a lock, to a descriptor opened for appending, and is on disk when `write`
returns: several processes may share a journal, and a run that is killed leaves whole lines only. JSON has no NaN or
infinity; such numbers become the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from fetafix.errors import OutputError, UsageError

_PACKAGES = (
    "numpy", "onnx", "onnxruntime", "torch", "torchvision", "onnx2torch", "onnxscript", "tensorflow", "keras",
    "tf2onnx", "ai-edge-litert",
)
_FEW = 64


def versions() -> dict[str, str]:
    """Versions of fetafix, Python and the installed packages that results depend on, without importing any of them."""
    import platform

    from fetafix import __version__

    found = {"fetafix": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """A value as what JSON can hold, nothing lost silently: long arrays become dtype, shape and hash."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else _nonfinite(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _summary(bytes(value), "bytes", [len(value)])
    if isinstance(value, Mapping):
        return {plain(str(k)): plain(v) for k, v in value.items()}
    if isinstance(value, msgspec.Struct):
        return {f: plain(getattr(value, f)) for f in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy, which the journal need not import
        small = getattr(value, "size", 1) <= _FEW
        return plain(value.tolist()) if small else _summary(value.tobytes(), str(value.dtype), list(value.shape))
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [plain(v) for v in items]
    return plain(str(value))


def _nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _summary(data: bytes, dtype: str, shape: list[int]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "sha256": hashlib.sha256(data).hexdigest()}


class Journal:
    """An open journal; `Journal(None)` swallows everything, so that callers need not ask whether one is kept.

    path: the file, made where it does not exist, never shortened. start: fields of the `start` event (seed, command,
    artifact hashes); the versions are added. Raises OutputError where the file cannot be written.
    """

    def __init__(self, path: str | Path | None, **start: Any) -> None:
        self.path = None if path is None else Path(path)
        self._fd: int | None = None
        if self.path is None:
            return
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise OutputError(f"the journal {self.path} cannot be written: {error.strerror}") from error
        self.write("start", versions=versions(), **start)

    def write(self, event: str, **fields: Any) -> None:
        """Append one line. Raises OutputError where the disk does not take it."""
        if self._fd is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        entry = {"time": now, "event": event, **{k: plain(v) for k, v in fields.items() if k not in ("time", "event")}}
        line = msgspec.json.encode(entry) + b"\n"
        try:
            with _locked(self._fd):
                while line:
                    line = line[os.write(self._fd, line):]
                os.fsync(self._fd)
        except OSError as error:
            raise OutputError(f"the journal {self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; further events are swallowed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _locked:  # reads as a statement
    """Exclusive among the processes that write this file; without fcntl, O_APPEND has to do."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        self._flock("LOCK_EX")

    def __exit__(self, *_: object) -> None:
        self._flock("LOCK_UN")

    def _flock(self, mode: str) -> None:
        try:
            import fcntl
        except ImportError:
            return
        fcntl.flock(self._fd, getattr(fcntl, mode))


def read(path: str | Path) -> Iterator[dict[str, Any]]:
    """The entries of a journal, oldest first. Raises UsageError naming the line that is no JSON object."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"the journal {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise UsageError(f"{path}, line {number}: expected one JSON object a line, found {line[:60]!r}") from error
