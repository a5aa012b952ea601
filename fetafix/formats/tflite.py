"""The TensorFlow Lite format family."""

from __future__ import annotations

from pathlib import Path

from fetafix.errors import UnreadableModel
from fetafix.formats.base import Artifact, OpenOptions


def recognise(path: Path) -> str | None:
    """The format's name; None where the file is something else."""
    return None


def open(path: Path, format: str, options: OpenOptions) -> Artifact:
    """The model in its runtime."""
    raise UnreadableModel(f"{path}: {format!r} cannot be opened")
