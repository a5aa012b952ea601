"""A struck copy brought to where the user wants it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fetafix.errors import OutputError
from fetafix.files import replacing
from fetafix.stress.medium import Target


def write(wanted: Target, original: Path, out: Path) -> None:
    """Copy the model to `out`, and files that hold its weights apart beside it. Raises OutputError.

    Nothing is written over the original or its files; a model that is a folder goes where there is none.
    """
    folder = wanted.path.parent
    if wanted.path.is_dir():
        _write_folder(wanted.path, original, out)
        return
    apart = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p != wanted.path]
    places = {out.parent / name: original.parent / name for name in apart} | {out: original}
    for place, source in places.items():
        if place.exists() and source.exists() and os.path.samefile(place, source):
            raise OutputError(f"{place} would be written over: originals are never changed; name another folder")
    try:
        for name in apart:
            (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(out.parent / name) as temporary:
                shutil.copyfile(folder / name, temporary)
        with replacing(out) as temporary:
            shutil.copyfile(wanted.path, temporary)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def _write_folder(struck: Path, original: Path, out: Path) -> None:
    if out.exists():
        raise OutputError(f"{out} is there already, and {original} is a folder: name one that is not there")
    try:
        shutil.copytree(struck, out)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"{out} cannot be written: {error}") from error
