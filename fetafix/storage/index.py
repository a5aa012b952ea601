"""Where SECDED words lie in a file: an index beside it, three identical copies of one JSON text, read by majority.

    {"format": "fetafix-secded", "version": 1, "tensors": [{"name": …, "shape": […], "pieces": [[offset, bytes], …],
     "file": …}, …]}

`file` is left out for the model itself, and names the file of external data in its folder otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.storage.holding import Held
from fetafix.storage.sidecar import majority

SUFFIX = ".fetafix.json"
FORMAT = "fetafix-secded"


def written(tensors: Sequence[Held], model: Path) -> bytes:
    """The index of tensors of a model."""
    entries: list[dict[str, Any]] = []
    for tensor in tensors:
        entry = {"name": tensor.name, "shape": list(tensor.shape), "pieces": [list(p) for p in tensor.pieces]}
        if tensor.path.resolve() != model.resolve():
            entry["file"] = tensor.path.name
        entries.append(entry)
    text = json.dumps({"format": FORMAT, "version": 1, "tensors": entries}, separators=(",", ":")) + "\n"
    return text.encode() * 3


def read(index: Path) -> list[dict[str, Any]]:
    """The entries. Raises UnreadableModel where the index is damaged beyond repair."""
    raw = index.read_bytes()
    try:
        if len(raw) % 3:
            raise ValueError("its three copies are not of one length")
        found = json.loads(majority(raw))
        if found.get("format") != FORMAT or found.get("version") != 1:
            raise ValueError(f"its format is {found.get('format')!r}")
        return list(found["tensors"])
    except (ValueError, KeyError, AttributeError) as error:
        raise UnreadableModel(f"{index}: no index of fetafix, or damaged beyond repair: {error}") from error
