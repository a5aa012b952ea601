"""Whether a lift answers as its own artifact does: per output, within what the artifact's arithmetic explains.

A float artifact and its lift compute the same up to rounding: relative L2 error ≤ 1e-3, for half precision ≤ 8 · eps of
it (7.8e-3 for float16, 6.2e-2 for bfloat16). Where a deep network makes more of its rounding, it is measured how much:
with every layer's result moved by a unit in its last place, and ten times that is allowed.

A quantised artifact rounds to codes inside, by fixed-point arithmetic (TFLite) or with scales made on the fly (dynamic
range), where the lift rounds by floats. Now and then a value near the middle of two codes falls on the other side,
which moves single values behind it by a code. Such flips are rare and without direction, so that mostly their root mean
square stays below one code of the output: its own scale where the output is quantised, else one of 255 steps of its
range. Where a model answers more sensitively (a softmax between two near winners), it is measured how far: the lift is
run again with every activation moved within half a code, and may be off by three times what that does. A lift that is
wrong moves whole layers, by many codes. The coarsest of these bounds holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fetafix.graph.rounding import FACTOR
from fetafix.graph.segment import relative_error
from fetafix.ir import Array
from fetafix.judge.noise import SAFETY

_FLOAT = 1e-3
_HALF = {"float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
_CODED = ("int8", "uint8", "int16", "int4", "uint4")
_STEPS = 255


def differs(
    name: str, lifted: Array, native: Array | None, details: Mapping[str, Any],
    flipped: Callable[[], Mapping[str, Array]] = dict, rounded: Callable[[], Mapping[str, Array]] = dict,
) -> str:
    """How an output of a lift differs from the artifact's own beyond what is allowed; "" where it does not.

    flipped: gives the lift's outputs with its activations rounded the other way here and there. rounded: the same for
    the last places of floats. Asked only in need.
    """
    if native is None:
        return "the model has no such output"
    if native.size != lifted.size:
        return f"shape {list(lifted.shape)}, the model's is {list(native.shape)}"
    own = np.asarray(native).reshape(lifted.shape)
    with np.errstate(invalid="ignore"):
        error = relative_error(lifted, own)
    if error <= _relative(own, details):
        return ""
    code = code_of(name, own, details)
    if code is None:
        other = rounded().get(name)
        explained = other is not None and error <= SAFETY * relative_error(other, lifted)
        return "" if explained else f"relative error {error:.2g}"
    off = _rms(lifted, own)
    if off <= code:
        return ""
    moved = flipped().get(name)
    most = code if moved is None else max(code, FACTOR * _rms(moved, lifted))
    return "" if off <= most else f"root mean square error {off / code:.2g} codes of {code:.2g}"


def code_of(name: str, native: Array, details: Mapping[str, Any]) -> float | None:
    """One code of an output, in its own unit; None where the artifact computes in floats."""
    declared = details.get("quantised_outputs", {}).get(name)
    if declared:
        return float(np.max(declared["scale"]))
    counts = details.get("dtypes", {})
    if not details.get("quantised") and not any(counts.get(d) for d in _CODED):
        return None
    finite = native[np.isfinite(native)] if native.dtype.kind == "f" else native
    return float(np.ptp(finite)) / _STEPS if finite.size and native.dtype.kind == "f" else None


def _relative(native: Array, details: Mapping[str, Any]) -> float:
    counts = details.get("dtypes", {})
    floats = {k: v for k, v in counts.items() if "float" in k} or {str(native.dtype): 1}
    most = max(floats, key=lambda k: floats[k])
    return max(_FLOAT, _HALF.get(most, 0.0), _HALF.get(str(native.dtype), 0.0))


def _rms(a: Array, b: Array) -> float:
    with np.errstate(all="ignore"):
        off = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    off = off[~((a == b) | (np.isnan(a) & np.isnan(b)))] if off.size and a.dtype.kind == "f" else off
    return float(np.sqrt(np.sum(np.square(off)) / max(a.size, 1)))
