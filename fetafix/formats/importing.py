"""Frameworks imported without what they merely look for, and without looking for garbage where all stays.

Keras imports scikit-learn and matplotlib wherever these are installed, for wrappers and galleries that no model needs:
of the processor time of importing TensorFlow that is a third, and the garbage collector a fifth.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast


@contextmanager
def quickly(without: Sequence[str] = ()) -> Iterator[None]:
    """Import within: the collector rests, and packages of these names that nobody has imported yet seem missing."""
    collecting = gc.isenabled()
    modules = cast(dict[str, Any], sys.modules)
    hidden = [name for name in without if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None makes an import fail as that of a missing package does
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        for name in hidden:
            if modules.get(name, name) is None:
                del modules[name]
