"""Which files belong to a model, and how made ones get their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fetafix.errors import OutputError
from fetafix.formats.onnx import scan as onnx_scan
from fetafix.storage import index, sidecar


def files_of(path: Path, format: str) -> list[Path]:
    """The model's file, then those of its external data."""
    if format not in ("onnx", "file"):
        return [path]
    facts = onnx_scan.scan(path)
    names = sorted({e.location for e in facts.external}) if facts is not None else []
    return [path, *(path.parent / n for n in names)]


def beside(path: Path, suffix: str) -> Path:
    """The sidecar of a file."""
    return path.with_name(path.name + suffix)


def sidecars(path: Path) -> list[Path]:
    """Both sidecars that a file may have, there or not."""
    return [beside(path, s) for s in (index.SUFFIX, sidecar.SUFFIX)]


def move(folder: Path, out: Path, originals: Sequence[Path]) -> None:
    """Give made files their places beside `out`, which comes last.

    Raises OutputError where one would be written over an original, or over a file that `out` does not name.
    """
    made = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.name == out.name)
    for file in made:
        place = out.parent / file.relative_to(folder)
        original = any(place.exists() and o.exists() and place.samefile(o) for o in originals)
        if original or (place.exists() and not place.name.startswith(out.name)):
            raise OutputError(f"{out}: its weights would be written to {place.name}, which is there already; name an "
                              "output in another folder")
    for file in made:
        place = out.parent / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
