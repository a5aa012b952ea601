"""Where results go: never over anything that is read, and checked before the work rather than after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fetafix.errors import OutputError

if TYPE_CHECKING:
    from fetafix.options import Options, RepairOptions

Paths = Mapping[str, str | os.PathLike[str] | None]
_MODELS = ("source", "target")


def default_output(target: str | Path) -> Path:
    """`model.repaired.onnx` beside `model.onnx`."""
    target = Path(target)
    return target.with_name(f"{target.stem}.repaired{target.suffix}")


def check(source: str | Path, target: str | Path, options: Options, wanted: RepairOptions) -> None:
    """Raise OutputError where a result of `repair` could not be written, or would be written over what is read."""
    out = wanted.output or default_output(target)
    results: dict[str, str | Path | None] = {"plan": wanted.save_plan, "patch": wanted.save_patch}
    results["journal"] = wanted.journal
    results["output"] = out if wanted.apply else None
    keep_apart(results, {"source": source, "target": target, "data": options.data, "plan": wanted.plan})
    for path in results.values():
        if path is not None:
            writable(path)


def keep_apart(results: Paths, read: Paths) -> None:
    """Raise OutputError where a result would be written over a file that is read, or over another result."""
    taken: dict[str, Path] = {role: Path(path) for role, path in read.items() if path is not None}
    for role, path in results.items():
        if path is None:
            continue
        other = next((r for r, p in taken.items() if _same(Path(path), p)), None)
        if other is not None:
            what = "is the data" if other == "data" else f"is the {other}"
            raise OutputError(f"the {role} cannot be written to {path}: that {what}; originals are never changed, "
                              "so name a file of its own")
        folder = next((p for r, p in taken.items() if r in _MODELS and inside(path, p)), None)
        if folder is not None:
            raise OutputError(f"the {role} cannot be written to {path}: that lies in the model {folder}, and originals "
                              "are never changed; name a place outside")
        taken[role] = Path(path)


def inside(path: str | os.PathLike[str], model: str | os.PathLike[str]) -> bool:
    """Whether a path lies within a model that is a folder."""
    return Path(model).is_dir() and Path(model).resolve() in Path(path).resolve().parents


def writable(path: str | Path) -> None:
    """Raise OutputError where a path is a folder, or where there is no folder to write it to."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{path} cannot be written: it is no plain file, which a result would replace; name a file")
    folder = path.absolute().parent
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: expected a file name, found a folder; name a file in it")
    if not folder.is_dir():
        found = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise OutputError(f"{path} cannot be written: {found}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: permission denied")


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return a.resolve() == b.resolve()
