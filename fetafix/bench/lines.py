"""Results as JSON lines: what a benchmark that was interrupted goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from fetafix.errors import UsageError

R = TypeVar("R", bound=msgspec.Struct)


class Keyed(Protocol):
    """A row that says which measurement it is."""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same measurement."""
        ...


K = TypeVar("K", bound=Keyed)


def begun(results: Path, kind: type[K], resume: bool) -> dict[tuple[object, ...], K]:
    """The rows that a file of results holds already, by their keys; its folder is made.

    Raises UsageError where there are some and they are not to be resumed.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    known = {row.key: row for row in read(results, kind)}  # type: ignore[type-var]
    if known and not resume:
        raise UsageError(f"{results} holds {len(known)} results; --resume goes on with them, or name another folder")
    return known


def in_order(rows: Sequence[K], keys: Sequence[tuple[object, ...]]) -> list[K]:
    """Rows in the order of their keys, wherever and whenever they were measured; others behind."""
    place = {key: i for i, key in enumerate(keys)}
    return sorted(rows, key=lambda row: place.get(row.key, len(place)))


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
