"""Where a conversion's result goes: checked before the work, moved there whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fetafix.errors import OutputError
from fetafix.options import Options
from fetafix.outputs import keep_apart, writable


def check(source: str | Path, out: str | Path, options: Options, journal: str | Path | None, force: bool) -> None:
    """Raise OutputError where the output could not be written, exists already, or is something that is read."""
    out = Path(out)
    keep_apart({"output": out, "journal": journal}, {"source": source, "data": options.data})
    if (out.exists() or out.is_symlink()) and not force:
        raise OutputError(f"{out} exists already; name another output, or replace it with --force")
    if out.is_dir() and not (out / "saved_model.pb").is_file():
        raise OutputError(f"{out} cannot be replaced: expected a model, found a folder that is no SavedModel")
    if not out.is_dir():
        writable(out)
    if journal is not None:
        writable(journal)


def rejected(out: str | Path) -> Path:
    """`model.rejected.onnx` for `model.onnx`: where a model that does not pass may be kept."""
    out = Path(out)
    return out.with_name(f"{out.stem}.rejected{out.suffix}")


def move(made: Path, out: Path) -> None:
    """Bring a file or folder to its place: under a temporary name first, then renamed. Raises OutputError."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        shutil.move(made, temporary)
        if out.is_dir() and not out.is_symlink():  # a folder is not replaced by renaming
            os.rename(out, old)
        elif temporary.is_dir():
            out.unlink(missing_ok=True)
        os.replace(temporary, out)
    except OSError as error:
        if old.exists() and not out.exists():
            os.rename(old, out)
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        for left in (temporary, old):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
