"""Open what `--data` names: a folder of images, an image, a .npy or .npz file, a Python loader, or nothing.

Files are recognised by content. Nothing is unpickled. A loader is code and needs `--trust` (`fetafix.inputs.loader`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from fetafix.errors import InputDataError
from fetafix.inputs.array_source import ArraySource, open_npy, open_npz
from fetafix.inputs.image_source import ImagesInMemory, ImageSource
from fetafix.inputs.images import ImageFiles, find, is_image
from fetafix.inputs.samples import Pixels, Source
from fetafix.inputs.synthetic import SyntheticSource

__all__ = ["ArraySource", "ImageSource", "Source", "SyntheticSource", "open_source"]


def open_source(
    data: str | Path | None,
    *,
    trust: bool,
    seed: int = 0,
    bounds: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Source:
    """The data source that `data` names; None makes samples up.

    trust: code of the user's may run (a loader "module:function" or "file.py:function"). seed, bounds: for synthetic
    samples. sizes: numbers for symbolic dimensions. Raises InputDataError where there is nothing to read, or nothing of
    a known kind, UsageError for a loader without trust.
    """
    sizes = dict(sizes or {})
    if data is None:
        return SyntheticSource(seed, dict(bounds or {}), sizes)
    path = Path(data)
    if path.is_dir():
        paths = find(path)
        return ImageSource(ImageFiles(paths, path), f"{len(paths)} image file(s) in {path}", sizes)
    if path.is_file():
        return _open_file(path, sizes)
    if names_loader(data):
        from fetafix.inputs.loader import load

        loaded = load(str(data), trust)
        origin = f"loader {data}"
        if isinstance(loaded, Pixels):
            return ImageSource(ImagesInMemory(loaded), origin, sizes, kind="loader")
        return ArraySource(loaded, origin, sizes, kind="loader")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    raise InputDataError(f"{data}: no such file or folder{hint}")


def names_loader(data: str | Path) -> bool:
    """Whether that reads like a loader, "module:function" or "file.py:function"."""
    return re.fullmatch(r"[\w./\\-]+:[A-Za-z_]\w*", str(data)) is not None


def _open_file(path: Path, sizes: Mapping[str, int]) -> Source:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\x93NUMPY"):
        return open_npy(path, sizes)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return open_npz(path, sizes)
    if is_image(path):
        return ImageSource(ImageFiles([path], path), f"1 image, {path}", sizes)
    found = "an empty file" if not head else f"a file that begins with {head!r}"
    hint = f"; a loader is named with its function, {path}:function, and needs --trust" if path.suffix == ".py" else ""
    raise InputDataError(f"{path}: expected a folder of images, an image, .npy or .npz, found {found}{hint}")
