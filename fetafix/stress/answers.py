"""What a classifier answers: the place of the largest score; nothing where a score is no number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fetafix.errors import UsageError
from fetafix.ir import Array

NONE = -1
_MATRIX = 2


def head(outputs: Mapping[str, Array], path: Path, wanted: str | None = None) -> str:
    """The output that holds class scores, (N, classes): the one asked for, else the first such. Raises UsageError."""
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"{path}: there is no output {wanted!r}; outputs are {', '.join(outputs)}")
    fitting = [n for n in ([wanted] if wanted else outputs) if _scores(outputs[n]) is not None]
    if not fitting:
        raise UsageError(f"{path}: expected an output of class scores (N, classes), for top-1 answers are what is "
                         f"counted; found {shapes}" + ("" if wanted else "; --output names one"))
    return fitting[0]


def classes(scores: Array) -> int:
    """How many classes an output of scores has."""
    found = _scores(scores)
    return 0 if found is None else int(found.shape[1])


def top1(scores: Array) -> Array:
    """The place of the largest score of each sample, int64 (N,); −1 where any score is NaN.

    scores: (N, classes), with axes of length 1 anywhere. Raises ValueError for other shapes.
    """
    flat = _scores(scores)
    if flat is None:
        raise ValueError(f"expected scores (N, classes), found {list(scores.shape)}")
    answers: Array = np.argmax(flat, 1).astype(np.int64)
    if flat.dtype.kind != "f":
        return answers
    return np.asarray(np.where(np.isnan(flat).any(1), NONE, answers))


def _scores(array: Array) -> Array | None:
    """(N, classes), or None where the shape is that of something else."""
    if array.ndim < _MATRIX or array.dtype.kind not in "fiu":
        return None
    long = [n for n in array.shape[1:] if n != 1]
    return array.reshape(array.shape[0], -1) if len(long) == 1 and array.shape[0] else None
