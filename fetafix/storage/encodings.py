"""Number formats of stored weights: values to bit patterns ("codes") and back.

    encoding("bf16").encode(w)     float32 (…) → uint16 (…)
    encoding("q2.5").decode(codes) uint8 (…) → float32 (…)

Codes are unsigned integers whose lowest `bits` bits are what lies in storage; flips strike those alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError

Array = npt.NDArray[Any]
BitClass = Literal["sign", "exponent", "mantissa", "integer", "fraction"]
NAMES = "fp32, fp16, bf16, Qm.n such as q2.5, int8"


class Encoding(Protocol):
    """A number format. bits: of one value in storage. limit: the largest magnitude that it holds."""

    @property
    def name(self) -> str:
        """How users call it."""
        ...

    @property
    def bits(self) -> int:
        """Bits of one value."""
        ...

    @property
    def limit(self) -> float:
        """The largest finite magnitude."""
        ...

    @property
    def floating(self) -> bool:
        """Whether it has an exponent."""
        ...

    def encode(self, values: Array) -> Array:
        """float32 or float64 values of any shape → codes of that shape, rounded to the nearest, saturated."""
        ...

    def decode(self, codes: Array) -> Array:
        """Codes of any shape → float32 values of that shape."""
        ...

    def part(self, bit: int) -> BitClass:
        """What the bit of this number, 0 the lowest, stands for."""
        ...


@dataclass(frozen=True)
class Float:
    """An IEEE 754 format, or the upper half of its single precision (bfloat16)."""

    name: str
    bits: int
    mantissa: int
    floating: bool = True

    @property
    def limit(self) -> float:
        """2^e_max · (2 − 2^−mantissa), e_max the same as its bias."""
        exponent = self.bits - 1 - self.mantissa
        return float(2.0 ** (2 ** (exponent - 1) - 1) * (2.0 - 2.0**-self.mantissa))

    def encode(self, values: Array) -> Array:
        """Rounded to nearest, ties to even; finite values beyond the limit are stored as the limit."""
        held = np.asarray(values)
        held = np.where(np.isfinite(held), np.clip(held, -self.limit, self.limit), held)
        if self.name == "fp32":
            return held.astype(np.float32).view(np.uint32)
        if self.name == "fp16":
            return held.astype(np.float16).view(np.uint16)
        bits = held.astype(np.float32).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
        quiet = ((bits >> np.uint32(16)) | np.uint32(0x40)).astype(np.uint16)
        return np.where(np.isnan(held), quiet, rounded)

    def decode(self, codes: Array) -> Array:
        """As it stands; NaN and infinities too."""
        if self.name == "fp32":
            return np.ascontiguousarray(codes, np.uint32).view(np.float32)
        if self.name == "fp16":
            return np.ascontiguousarray(codes, np.uint16).view(np.float16).astype(np.float32)
        return (np.ascontiguousarray(codes, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)

    def part(self, bit: int) -> BitClass:
        """Sign, exponent or mantissa."""
        if bit == self.bits - 1:
            return "sign"
        return "exponent" if bit >= self.mantissa else "mantissa"


@dataclass(frozen=True)
class Fixed:
    """Qm.n: two's complement with a sign, m integer and n fraction bits; one step is 2^−n.

    int8 is Q0.7 whose scale is chosen by whoever stores (`constants`): codes −128 to 127 are what counts.
    """

    integer: int
    fraction: int
    floating: bool = False

    @property
    def name(self) -> str:
        """q2.5."""
        return f"q{self.integer}.{self.fraction}"

    @property
    def bits(self) -> int:
        """1 + m + n."""
        return 1 + self.integer + self.fraction

    @property
    def limit(self) -> float:
        """The largest value; the smallest is one step further from 0."""
        return float(2.0**self.integer - 2.0**-self.fraction)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes: the smallest unsigned integer that holds the bits."""
        return np.dtype(next(f"uint{n}" for n in (8, 16, 32) if n >= self.bits))

    def encode(self, values: Array) -> Array:
        """Rounded to nearest, ties to even, saturated; NaN becomes 0."""
        top = 2 ** (self.bits - 1)
        held = np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=0.0), -2 * self.limit - 2, 2 * self.limit + 2)
        steps = np.rint(held * 2.0**self.fraction)
        whole = np.clip(steps, -top, top - 1).astype(np.int64)
        return np.asarray(whole & (2**self.bits - 1), self.dtype)

    def decode(self, codes: Array) -> Array:
        """Steps times 2^−n, exact in float32 for up to 24 bits."""
        sign = np.int64(2 ** (self.bits - 1))
        whole = np.asarray(codes).astype(np.int64) & (2**self.bits - 1)
        return np.asarray(((whole ^ sign) - sign) * 2.0**-self.fraction, np.float32)

    def part(self, bit: int) -> BitClass:
        """Sign, integer or fraction."""
        if bit == self.bits - 1:
            return "sign"
        return "integer" if bit >= self.fraction else "fraction"


FP32, FP16, BF16 = Float("fp32", 32, 23), Float("fp16", 16, 10), Float("bf16", 16, 7)
Q2_5, INT8 = Fixed(2, 5), Fixed(0, 7)
_KNOWN: dict[str, Encoding] = {"fp32": FP32, "float32": FP32, "fp16": FP16, "float16": FP16, "bf16": BF16,
                               "bfloat16": BF16, "int8": INT8}
_FIXED = re.compile(r"q(\d+)\.(\d+)")


def encoding(name: str) -> Encoding:
    """The format of a name. Raises UsageError that lists them."""
    wanted = name.strip().lower()
    if wanted in _KNOWN:
        return _KNOWN[wanted]
    match = _FIXED.fullmatch(wanted)
    if match is not None and 2 <= 1 + int(match[1]) + int(match[2]) <= 24:
        return Fixed(int(match[1]), int(match[2]))
    raise UsageError(f"unknown number format {name!r}; expected one of {NAMES} (1 + m + n between 2 and 24)")
