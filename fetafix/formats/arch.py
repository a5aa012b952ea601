"""The architecture that a file of weights lacks, from the user's own code: `--arch module:factory`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from fetafix.errors import UsageError


def built(arch: str, kind: type[Any], expected: str, example: str) -> Any:
    """What the factory returns, looked for in the current folder and on PYTHONPATH.

    Args:
        arch: "module:factory".
        kind: the class that it must be an instance of.
        expected: that class in words, with its article.
        example: an `arch` to show to those who wrote it differently.

    Raises:
        UsageError: `arch` names nothing that can be called, the call fails, or it returns something else.
    """
    name, _, attribute = arch.partition(":")
    if not name or not attribute:
        raise UsageError(f"--arch {arch}: expected module:factory, for example {example}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"--arch {arch}: {error}; it is looked for in the current folder ({here}) and on PYTHONPATH"
        ) from error
    try:
        made = factory()
    except Exception as error:  # the user's own code
        raise UsageError(f"--arch {arch}: {attribute}() raised {type(error).__name__}: {error}") from error
    if not isinstance(made, kind):
        raise UsageError(f"--arch {arch}: {attribute}() returned a {type(made).__name__}; expected {expected}")
    return made
