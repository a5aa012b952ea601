"""Where a tensor lies in a file: what a fault in storage can strike, and what a protection can rewrite in place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Role = Literal["weight", "constant"]


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor as it lies in a file.

    name: as the format calls it, unique within the model. role: "weight" for float or integer values of two dimensions
    or more that a matrix product, convolution, recurrent layer or embedding multiplies by or picks from; "constant"
    for all others (biases, scales, zero points, statistics, shapes). dtype: numpy's, little-endian (ml_dtypes' for
    bfloat16 and float8); two 4-bit codes are one uint8. path: the file that holds the bytes, which external data may
    keep apart from the model. pieces: ((offset, bytes), …) in that file, in order, no byte twice. axis: that of the
    output channels, or None. order: the axes from the slowest to the fastest as they lie in storage (a transposed
    view), or None for C order.
    """

    name: str
    role: Role
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    path: Path
    pieces: tuple[tuple[int, int], ...]
    axis: int | None = None
    order: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return sum(n for _, n in self.pieces)

    @property
    def floating(self) -> bool:
        """Whether the values are floats; ml_dtypes' kinds count, which numpy does not know as such."""
        return bool(self.dtype.kind == "f" or self.dtype.name.startswith(("bfloat", "float")))
