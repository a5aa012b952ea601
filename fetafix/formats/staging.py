"""Where a repaired model is written before it gets its name, so that a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fetafix.errors import OutputError


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same file system, gone afterwards. Turns OSError into OutputError."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield folder
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and not out.parent.is_dir()
        why = f"the folder {out.parent} does not exist" if missing else error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written: {why}; choose another output") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
