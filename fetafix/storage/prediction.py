"""The error that flips make, predicted: by number format, protection and bit.

Every bit of (a sample of) the stored values is flipped by itself and read back, which gives for each bit the exact
distribution of the error; at a bit-error rate p so small that a value is hit once at most, a weight's squared error is
p · Σ_bits E[error²], and the share of wrecked weights p · Σ_bits P(wrecked).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix.storage.encodings import BitClass
from fetafix.storage.schemes import Plan, Stored, load, store

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class BitError:
    """What a flip of one bit does. bit: 0 the lowest. mean, rms: of |error| where it is finite, in the weights' unit.

    wrecked: share of values that end beyond twice the tensor's largest magnitude off, or as NaN or infinite.
    """

    bit: int
    part: BitClass
    mean: float
    rms: float
    wrecked: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What single flips do to a tensor. rounding: RMS error of storing it, without any flip."""

    plan: Plan
    bits: tuple[BitError, ...]
    rounding: float

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
    clean = load(stored)
    largest = float(np.abs(weights).max(initial=0.0))
    chosen = np.arange(weights.size)
    if weights.size > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(weights.size, sample, replace=False))
    found = tuple(_bit(stored, clean, chosen, bit, largest) for bit in range(plan.encoding.bits))
    off = clean.astype(np.float64) - weights
    return Prediction(stored.plan, found, float(np.sqrt(np.mean(off**2))) if off.size else 0.0)


def _bit(stored: Stored, clean: Array, chosen: Array, bit: int, largest: float) -> BitError:
    codes = stored.codes.copy()
    codes.reshape(-1)[chosen] ^= codes.dtype.type(1 << bit)
    read = load(Stored(codes, stored.plan, stored.factors, stored.bounds))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(read.reshape(-1)[chosen].astype(np.float64) - clean.reshape(-1)[chosen])
    finite = off[np.isfinite(off)]
    wrecked = 1.0 - float(np.mean(off <= 2.0 * largest)) if off.size else 0.0
    mean = float(finite.mean()) if finite.size else 0.0
    rms = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return BitError(bit, stored.plan.encoding.part(bit), mean, rms, wrecked)
