"""A Python function of the user's as data source: "module:function" or "file.py:function", called without arguments.

It returns
- an array (samples, *item), or a mapping input name → such an array; or
- an iterable of samples (a generator, a DataLoader, a list), each one an item without batch axis: an array, a mapping
  input name → array, or an image (a PIL image, or uint8 (h, w, 1|3|4)), images of any size. At most 10,000 are taken.

This is code, so it runs only with `--trust`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import InputDataError, UsageError
from fetafix.inputs import images
from fetafix.inputs.recipe import nearest
from fetafix.inputs.samples import Pixels
from fetafix.ir import Array

_MOST_SAMPLES = 10_000


def load(reference: str, trust: bool) -> dict[str, Array] | Pixels:
    """Call the function and collect what it gives; under the name "" where it names no input.

    Raises UsageError without `trust`, InputDataError where the function is missing, fails, or gives something else.
    """
    if not trust:
        raise UsageError(f"--data {reference} runs Python code: allow it with --trust, or give .npy, .npz or images")
    function = _function(reference)
    try:
        given = function()
        if not isinstance(given, np.ndarray | Mapping) and isinstance(given, Iterable) and not hasattr(given, "shape"):
            given = list(islice(given, _MOST_SAMPLES))
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise InputDataError(f"loader {reference} raised {type(error).__name__}: {error}") from error
    return _collected(given, reference)


def _function(reference: str) -> Callable[[], Any]:
    place, _, name = reference.rpartition(":")
    try:
        module = _module(place)
    except (Exception, SystemExit) as error:  # importing is running code, which may raise anything
        raise InputDataError(f"loader {reference}: cannot import {place!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        has = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputDataError(f"loader {reference}: {place} has no function {name!r}{nearest(name, has)}")
    return function  # type: ignore[no-any-return]


def _module(place: str) -> Any:
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    here = str(Path.cwd())
    sys.path.insert(0, here)  # as `python -m` does: a loader usually lies beside the models
    try:
        return importlib.import_module(place)
    finally:
        sys.path.remove(here)


def _collected(given: Any, reference: str) -> dict[str, Array] | Pixels:
    if isinstance(given, Mapping):
        return {str(name): _numbers(array, reference) for name, array in given.items()}
    if not isinstance(given, list):
        return {"": _numbers(given, reference)}
    if not given:
        raise InputDataError(f"loader {reference} gave no samples")
    if all(map(_is_image, given)):
        pixels = tuple(g if isinstance(g, np.ndarray) else images.rgb(g) for g in given)
        return Pixels(pixels, tuple(f"sample {i} of {reference}" for i in range(len(given))))
    if all(isinstance(g, Mapping) for g in given):
        return {str(name): _stacked([g.get(name) for g in given], reference, str(name)) for name in given[0]}
    return {"": _stacked(given, reference, "")}


def _is_image(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] in (1, 3, 4)
    return hasattr(item, "convert") and hasattr(item, "getexif")


def _stacked(items: list[Any], reference: str, name: str) -> Array:
    arrays = [_numbers(item, reference) for item in items]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        what = f"array {name!r} of loader {reference}" if name else f"loader {reference}"
        raise InputDataError(f"{what}: samples must have one shape, found {sorted(map(list, shapes))[:4]}")
    return np.stack(arrays)


def _numbers(value: Any, reference: str) -> Array:
    """Anything that numpy takes for an array of numbers (torch and tensorflow tensors too)."""
    array = np.asarray(value)
    if array.dtype.kind in "OSUMm":
        kind = type(value).__name__
        raise InputDataError(
            f"loader {reference}: expected arrays of numbers, mappings of them, or images, found {kind} ({array.dtype})"
        )
    return array
