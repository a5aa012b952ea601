"""Files that are written whole or not at all, and by one at a time where that matters."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to: it becomes `path` on success, and vanishes on any error or Ctrl-C."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Nobody else who asks for the same is in here, be it another thread or another process on this machine.

    A hidden file beside `path` stands for the lock; it stays, since a lock on a file that was removed locks nobody out.
    Raises OSError where it cannot be made.
    """
    path = Path(path)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # which gives the lock up


def _lock(descriptor: int) -> None:
    """Wait for the lock."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
