"""A guard for weights that came without one: what stands out of a tensor as only a flipped exponent bit makes it.

A float's exponent bits multiply it by 2^±(2^k). Trained weights spread over a few powers of two above their typical
magnitude; what lies 16 times beyond the 90th percentile, or is no number, is taken for struck and read as 0: a loss of
one small weight, where the struck one would have drowned all others. Flips of lower bits stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FAR, QUANTILE = 16.0, 0.9
_FEWEST = 4


def outlying(values: Array) -> Array:
    """Which floats of a tensor (any shape) are no numbers or out of range, bool of that shape."""
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    sizes = np.abs(wide[finite & (wide != 0)])
    if sizes.size < _FEWEST:
        return ~finite
    return np.asarray(~(np.abs(wide) <= FAR * np.quantile(sizes, QUANTILE)))


def guarded(values: Array) -> tuple[Array, int]:
    """Floats with what is outlying as 0, and how many that were."""
    struck = outlying(values)
    return np.where(struck, np.zeros((), values.dtype), values), int(struck.sum())
