"""What a comparator is: how one kind of answer is recognised, compared sample by sample, and told in words.

A comparator sees the outputs that belong together (`Claim.roles`), chunk by chunk, and notes a few figures a sample
(`Observed`). From these it says on which samples both models give the same answer (`agree`); the judge does the rest
for all of them alike: the share of agreeing samples with exact bounds, when enough samples were seen, the gate, and
which of two repairs is the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fetafix.ir import Array

Sure = Literal["asked", "yes", "maybe"]
Rows = Mapping[str, Array]
Limits = Mapping[str, float]
OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class View:
    """An output of the source to judge by: its name, its values for some samples (axis 0), whether it is the only one.

    step: what one code is worth, for outputs that hold codes.
    """

    name: str
    values: Array
    alone: bool = True
    step: float = 0.0


def plain(values: Array) -> Array:
    """Floats that numpy itself does not know (bfloat16) as float32; others as they are."""
    return values.astype(np.float32) if values.dtype.kind == "V" else values


def usable(views: Sequence[View]) -> list[View]:
    """Outputs that hold real numbers, without the samples where these are not finite; not those without any sample."""
    made = []
    for v in (replace(v, values=plain(v.values)) for v in views):
        if v.values.dtype.kind in "fiub" and v.values.ndim and v.values.size:
            fine = np.isfinite(v.values.reshape(len(v.values), -1)).all(1)
            made += [v if fine.all() else replace(v, values=v.values[fine])] if fine.any() else []
    return made


@dataclass(frozen=True, slots=True)
class Claim:
    """What a comparator says about some outputs: that they are its business, how sure that is, and why.

    roles: what each output is to the comparator ("boxes", "scores"; `OUTPUT` where it takes one) → the output's name.
    facts: what it has to know for all samples alike, read off the source's values: an axis, a format, an offset.
    """

    roles: Mapping[str, str]
    sure: Sure
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def only(view: View, sure: Sure, why: str, **facts: Any) -> Claim:
    """A claim on one output."""
    return Claim({OUTPUT: view.name}, sure, why, facts)


@dataclass(frozen=True, slots=True)
class Observed:
    """What was noted about each sample; `a + b` joins two chunks.

    measures: float64[N], NaN where a sample has none. kept: arrays (N, …) for figures over all samples; a chunk whose
    rows are shorter (counts by class, of classes that it does not have) is filled up with zeros.
    """

    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    kept: Mapping[str, Array] = field(default_factory=dict)

    def __add__(self, other: Observed) -> Observed:
        if not self.measures or not other.measures:
            return self if self.measures else other
        return Observed(
            {k: np.concatenate([v, other.measures[k]]) for k, v in self.measures.items()},
            {k: _stacked(v, other.kept[k]) for k, v in self.kept.items()},
        )

    @property
    def n(self) -> int:
        """Samples seen."""
        return len(next(iter(self.measures.values()), ()))

    def mean(self, name: str) -> float:
        """The mean of a measure over the samples that have one; 1 where none has."""
        known = self.measures[name][np.isfinite(self.measures[name])]
        return float(known.mean()) if known.size else 1.0


def _stacked(a: Array, b: Array) -> Array:
    width = max(a.shape[1:], b.shape[1:])
    return np.concatenate([_filled(v, width) for v in (a, b)])


def _filled(a: Array, width: tuple[int, ...]) -> Array:
    return a if a.shape[1:] == width else np.pad(a, [(0, 0), *((0, w - n) for n, w in zip(a.shape[1:], width,
                                                                                        strict=True))])


class Comparator(Protocol):
    """One kind of answer. An instance without arguments is what the entry point group `fetafix.comparators` names.

    name: as in `--task NAME`. limits: what `agree` asks for, by name, with the defaults that a user may override.
    needs: which outputs it takes, in words, for whoever asks for it in vain.
    """

    name: str
    needs: str
    limits: Limits

    def claim(self, views: Sequence[View], asked: bool) -> Sequence[Claim]:
        """Which of a model's outputs are its business. Silence is right where there is doubt.

        asked: the user says that these outputs are; then only their shapes count.
        """
        ...

    def observe(
        self, source: Rows, target: Rows, claim: Claim, limits: Limits, ties: Limits
    ) -> Observed | None:
        """Compare both models' outputs for the same samples (axis 0), by role, both in the source's layout.

        ties: by role, within which difference two scores count as equal. None where the shapes do not allow it.
        """
        ...

    def agree(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Whether both models give the same answer, sample by sample: bool[N]."""
        ...

    def lost(self, seen: Observed, limits: Limits) -> NDArray[np.bool_]:
        """Which samples disagree whatever further samples bring: bool[N]."""
        ...

    def final(self, seen: Observed, limits: Limits) -> bool:
        """Whether no further sample can change what `agree` says."""
        ...

    def likeness(self, seen: Observed) -> float:
        """How much alike the answers are, from 0 to 1: what tells a good repair from a better one."""
        ...

    def figures(self, seen: Observed, limits: Limits) -> dict[str, float]:
        """What the report says, by name."""
        ...

    def words(self, figures: Mapping[str, float]) -> str:
        """The figures in words, for people."""
        ...

    def answer(self, seen: Observed, i: int) -> str:
        """What tells the two answers to a sample apart."""
        ...


@dataclass(frozen=True)
class Assignment:
    """A comparator with the outputs that it judges and the limits that hold."""

    comparator: Comparator
    claim: Claim
    limits: Limits

    @property
    def outputs(self) -> tuple[str, ...]:
        """The source outputs it judges."""
        return tuple(self.claim.roles.values())

    @property
    def key(self) -> str:
        """What tells it from others of the model."""
        return f"{self.comparator.name}:{','.join(self.outputs)}"

    @property
    def sure(self) -> bool:
        """Whether it is more than a guess."""
        return self.claim.sure != "maybe"


def share(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of True behind axis 0: (N, …) → float64[N]; 1 where there is nothing."""
    flat = hits.reshape(len(hits), -1)
    made: NDArray[np.float64] = flat.mean(1) if flat.shape[1] else np.ones(len(hits))
    return made


_WHOLE = 1.0 - 1e-9  # but for float64's rounding


def figure(value: float, digits: int = 4) -> str:
    """A share in so many digits that says 1 only where it is whole."""
    return f"{value if value >= _WHOLE else min(value, 1.0 - 10.0**-digits):.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage that says 100% only where it is whole."""
    return f"{value if value >= _WHOLE else min(value, 1.0 - 10.0 ** -(digits + 2)):.{digits}%}"


def alike(source: Rows, target: Rows) -> bool:
    """Whether all outputs have the shapes of their twins."""
    return all(target[k].shape == v.shape for k, v in source.items())
