"""The error that flips make, predicted: by number format, protection and bit.

Every bit of (a sample of) the stored values is flipped by itself and read back, which gives for each bit the exact
distribution of the error; at a bit-error rate p so small that a value is hit once at most, a weight's squared error is
p · Σ_bits E[error²], and the share of wrecked weights p · Σ_bits P(wrecked).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.storage.encodings import BitClass
from fetafix.storage.schemes import Plan, Stored, load, store, taken

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class BitError:
    """What a flip of one bit does. bit: 0 the lowest. mean, rms: of |error| where it is finite, in the weights' unit.

    wrecked: share of values that end beyond twice the tensor's largest magnitude off, or as NaN or infinite. finite:
    share of values that a flip leaves finite. fourth: mean of error⁴ where it is finite, which says how much rms²
    varies from flip to flip.
    """

    bit: int
    part: BitClass
    mean: float
    rms: float
    wrecked: float
    finite: float = 1.0
    fourth: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What single flips do to a tensor. rounding: RMS error of storing it, without any flip. largest: magnitude as read
    without a flip.
    """

    plan: Plan
    bits: tuple[BitError, ...]
    rounding: float
    largest: float = 0.0

    @property
    def rms(self) -> float:
        """RMS error of a value of which one bit, any, has flipped."""
        return float(np.sqrt(np.mean([b.rms**2 for b in self.bits])))

    @property
    def wrecked(self) -> float:
        """Share of single flips that wreck a value."""
        return float(np.mean([b.wrecked for b in self.bits]))

    def expected_rms(self, ber: float) -> float:
        """RMS error of all weights at a bit-error rate, rounding included; inf where finite errors overflow."""
        return float(np.sqrt(self.rounding**2 + ber * sum(b.rms**2 for b in self.bits)))

    def expected_wrecked(self, ber: float, weights: int) -> float:
        """How many of so many weights are wrecked at a bit-error rate, on average."""
        return float(ber * sum(b.wrecked for b in self.bits) * weights)


def predict(weights: Array, plan: Plan, sample: int = 100_000, seed: int = 0) -> Prediction:
    """Flip every bit of up to `sample` values of a tensor, one at a time."""
    stored = store(weights, plan)
    off = load(stored).astype(np.float64) - weights
    return predicted(stored, float(np.sqrt(np.mean(off**2))) if off.size else 0.0, sample, seed)


def predicted(stored: Stored, rounding: float = 0.0, sample: int = 100_000, seed: int = 0) -> Prediction:
    """As `predict`, of a tensor in storage."""
    largest = float(np.nan_to_num(np.abs(load(stored)), posinf=0.0).max(initial=0.0))
    chosen = np.arange(stored.codes.size)
    if stored.codes.size > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(stored.codes.size, sample, replace=False))
    some = taken(stored, chosen)
    clean = load(some)
    found = tuple(_bit(some, clean, bit, largest) for bit in range(stored.plan.encoding.bits))
    return Prediction(stored.plan, found, rounding, largest)


def _bit(some: Stored, clean: Array, bit: int, largest: float) -> BitError:
    read = load(replace(some, codes=some.codes ^ some.codes.dtype.type(1 << bit)))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(read.astype(np.float64) - clean)
    finite = off[np.isfinite(off)]
    part = some.plan.encoding.part(bit)
    if not off.size:
        return BitError(bit, part, 0.0, 0.0, 0.0)
    wrecked = 1.0 - float(np.mean(off <= 2.0 * largest))
    if not finite.size:
        return BitError(bit, part, 0.0, 0.0, wrecked, 0.0)
    squares = np.square(finite)
    return BitError(bit, part, float(finite.mean()), float(np.sqrt(squares.mean())), wrecked,
                    finite.size / off.size, float(np.square(squares).mean()))
