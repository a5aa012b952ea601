"""The samples that a step works with, fitted to the inputs of the model at hand: in the middle of a route these can
have other names and another layout than the source's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
Shape = Sequence[Any] | None


def load(path: str) -> dict[str, Any]:
    """The arrays of an .npz file by name, in their order. Raises ValueError where there is none."""
    if not path:
        raise ValueError("this step needs samples of the model's inputs, and there are none")
    with np.load(Path(path), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def fitted(samples: Mapping[str, Any], wanted: Sequence[tuple[str, Shape]]) -> list[Any]:
    """One array for each input (name, shape): by name, else by shape, else by order; images turned to its layout.

    A shape's entries that are no positive numbers fit everything. Raises ValueError where there are too few arrays.
    """
    if len(samples) < len(wanted):
        raise ValueError(f"the model has {len(wanted)} inputs, and samples exist for {len(samples)}")
    left = dict(samples)
    chosen: dict[int, Any] = {i: left.pop(name) for i, (name, _) in enumerate(wanted) if name in left}
    for i, (_, shape) in enumerate(wanted):
        if i not in chosen:
            key = next((k for k, v in left.items() if turned(v, shape) is not None), next(iter(left)))
            chosen[i] = left.pop(key)
    made = (turned(chosen[i], shape) for i, (_, shape) in enumerate(wanted))
    return [chosen[i] if value is None else value for i, value in enumerate(made)]


def turned(value: Any, shape: Shape) -> Any:
    """The array as it is or with its channels moved, whichever fits the shape; None where neither does."""
    if fits(value.shape, shape):
        return value
    if value.ndim == 4:
        for order in (_TO_LAST, _TO_FIRST):
            if fits(tuple(value.shape[i] for i in order), shape):
                return np.ascontiguousarray(value.transpose(order))
    return None


def fits(shape: Sequence[int], wanted: Shape) -> bool:
    """Whether a shape fits another one, the first axis (the batch) aside."""
    if wanted is None:
        return True
    if len(shape) != len(wanted):
        return False
    return all(not isinstance(w, int) or w <= 0 or s == w for s, w in list(zip(shape, wanted, strict=True))[1:])
