"""Which kind of PyTorch file is this? Told from the bytes alone; nothing is unpickled, torch is not imported."""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TORCHSCRIPT = "torchscript"
EXPORT = "torch-export"
MODULE = "torch-module"
STATE_DICT = "torch-state-dict"
SAFETENSORS = "safetensors"

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DICTS = {"collections OrderedDict"}


def recognise(path: Path) -> str | None:
    """The format id of a PyTorch file, or None where it is none. Damaged files are None too."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            if head[:4] == b"PK\x03\x04":
                return _zip(file)
            if head[:1] == b"\x80":
                return _legacy(file)
            if head[8:9] == b"{":
                return _safetensors(file)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError, NotImplementedError):
        return None
    return None


def _zip(file: IO[bytes]) -> str | None:
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        if "archive_format" in members and "archive_version" in members:
            return EXPORT if any(m.startswith("models/") for m in members) else None
        if "serialized_exported_program.json" in members or "serialized_exported_program.json" in archive.namelist():
            return EXPORT
        if "data.pkl" not in members:
            return None
        if "constants.pkl" in members or any(m.startswith("code/") for m in members):
            return TORCHSCRIPT
        with archive.open(members["data.pkl"]) as pickled:
            return _kind(io.BytesIO(pickled.read(4096)))


def _legacy(file: IO[bytes]) -> str | None:
    """torch.save before 1.6: pickles of magic, version, system, object, one after the other."""
    first = next((arg for _, arg, _ in pickletools.genops(file) if isinstance(arg, int) and arg > 255), None)
    if first != _LEGACY_MAGIC:
        return None
    for _ in range(2):
        for _ in pickletools.genops(file):
            pass
    return _kind(file)


def _kind(pickled: IO[bytes]) -> str | None:
    """A dict is a state dict or a checkpoint; everything else that torch.save wrote is an object, as a module."""
    for name, arg in _first_operations(pickled):
        if name == "EMPTY_DICT" or (name in ("GLOBAL", "STACK_GLOBAL") and arg in _DICTS):
            return STATE_DICT
        return MODULE
    return None


def _first_operations(pickled: IO[bytes]) -> Iterator[tuple[str, object]]:
    skipped = {"PROTO", "FRAME", "MARK", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
    texts: list[object] = []
    for operation, arg, _ in pickletools.genops(pickled):
        if operation.name in skipped:
            continue
        if operation.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(arg)
            continue
        if operation.name == "STACK_GLOBAL":
            arg = " ".join(str(t) for t in texts[-2:])
        yield operation.name, arg


def _safetensors(file: IO[bytes]) -> str | None:
    size = int.from_bytes(file.read(8), "little")
    if not 2 <= size <= 100_000_000:
        return None
    header = json.loads(file.read(size))
    tensors = [v for k, v in header.items() if k != "__metadata__"]
    return SAFETENSORS if all("data_offsets" in t for t in tensors) else None
