"""What a model is fed, held against its interface."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fetafix.errors import InputDataError


def check_names(path: Path, wanted: Collection[str], given: Collection[str]) -> None:
    """Raise InputDataError unless exactly the inputs of the model at `path` are fed."""
    if set(given) != set(wanted):
        expected, found = (", ".join(sorted(names)) or "none" for names in (wanted, given))
        raise InputDataError(f"{path}: expected inputs {expected}; got {found}")
