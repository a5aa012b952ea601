"""What somebody wants done with a patch, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fetafix.edit_data import ArrayStore
from fetafix.formats.base import OpenOptions
from fetafix.patch.record import Patch, outline_of
from fetafix.report import Output, Record


class Placed(Record, frozen=True, kw_only=True):
    """What became of an entry. layer: in this model's words.

    status: "applied" ("reverted"), "in place", "refused", or "fits" where another entry was refused.

    found: in what the layer is the one that was repaired, besides its place in the graph: "weights" (and settings),
    "settings" or only the "shapes" of its constants.
    """

    id: str
    code: str
    status: str
    layer: str | None = None
    found: str = ""
    edits: list[str] = []
    why: str = ""


class Outcome(Record, frozen=True, kw_only=True):
    """What became of a patch.

    status: "written"; "in place" (nothing was left to do); "preprocessing" (the model stays as it is, its inputs are to
    be prepared otherwise); "refused" (nothing was written). share, weights: of the layers, how many were found again,
    and how many of those hold the same weights. preprocess: how the inputs are to be prepared from now on.
    """

    command: str
    patch: str
    model: str
    status: str
    reason: str
    entries: list[Placed] = []
    output: Output | None = None
    preprocess: dict[str, Any] | None = None
    share: float = 0.0
    weights: float = 0.0
    notes: list[str] = []
    schema_version: int = 1

    @property
    def exit_code(self) -> int:
        """1 where the patch was refused, else 0."""
        return int(self.status == "refused")


@dataclass(frozen=True, slots=True)
class Wish:
    """How to apply a patch. out: the new file (None: beside the model). partial: leave out what does not fit.

    preprocess: how the model's inputs are prepared now, where the patch changes that; checked only where given.
    """

    out: str | Path | None = None
    partial: bool = False
    preprocess: Any = None
    options: OpenOptions = field(default_factory=OpenOptions)


def described(patch: Patch, store: ArrayStore) -> dict[str, Any]:
    """A patch as plain data for readers: everything but the graphs and the bytes."""
    data: dict[str, Any] = msgspec.to_builtins(patch)
    for name in ("before", "after", "undo"):
        del data[name]
    for entry in data["entries"]:
        del entry["edits"]
    data["arrays"] = {"count": len(store.blobs), "bytes": sum(map(len, store.blobs.values()))}
    data["operators"] = len(outline_of(patch.before, store).graph.nodes)
    return data
