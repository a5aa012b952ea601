"""Runs of models kept as files: what a model answered to some feeds, found again by a key.

A store is a folder that anybody may delete. Each entry is one file: a line of JSON (a checksum of what follows, names,
dtypes, shapes, the model's info), then the arrays' bytes. Entries are written whole or not at all; a damaged one counts
as missing. The store stays within a bound: the entries that were used longest ago are deleted first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def default_folder() -> Path:
    """`FETAFIX_CACHE`, else the user's folder for caches on this system."""
    named = os.environ.get("FETAFIX_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fetafix"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fetafix" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fetafix"
