"""Results as JSON lines: what a benchmark that was interrupted goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)


def append(path: Path, row: msgspec.Struct) -> None:
    """Add a row to a file of JSON lines."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def read(path: Path, kind: type[R]) -> list[R]:
    """The rows of a file; a last line that an interruption cut off is left out."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            rows.append(msgspec.json.decode(line, type=kind))
        except msgspec.MsgspecError:
            continue
    return rows
