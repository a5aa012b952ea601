"""The codes in which models put out real numbers: outputs can only agree as far as the steps between codes are fine.

A quantised output holds integers that stand for real = (code − zero point) · scale. Two implementations of the same
arithmetic may round the last step apart, so one code more or less is no disagreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fetafix.judge.binding import Binding
from fetafix.report import ModelInfo

# Real numbers are computed from codes in float32: a difference of one code may come out this share larger.
_ROUNDING = 1e-4


def steps(source: ModelInfo, target: ModelInfo, outputs: Sequence[Binding]) -> dict[str, float]:
    """Source output → what one code is worth in its unit, the coarser of both models' where both are quantised.

    Outputs that neither model quantises are left out. Read from `details["quantised_outputs"]`, as the formats tell it.
    """
    found = {b.source: max(step(source, b.source), step(target, b.target)) for b in outputs}
    return {name: worth for name, worth in found.items() if worth > 0.0}


def step(model: ModelInfo, output: str) -> float:
    """What one code of a model's output is worth in real numbers; 0 where it is not quantised."""
    known = model.details.get("quantised_outputs")
    facts = known.get(output) if isinstance(known, Mapping) else None
    scale = facts.get("scale") if isinstance(facts, Mapping) else None
    return float(scale) if isinstance(scale, int | float) else 0.0


def one_code(worth: float) -> float:
    """How far apart two neighbouring codes may come out as real numbers."""
    return worth * (1.0 + _ROUNDING)


def codes(difference: float | None, worth: float | None) -> float | None:
    """A difference as a number of codes, rounded to the thousandth; None where the output is not quantised."""
    return None if difference is None or not worth else round(difference / worth, 3)
