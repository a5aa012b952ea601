"""The records of the benchmark: one line a mutant, a control, or a pair of network and fault type without a place."""

from __future__ import annotations

from typing import Literal

import msgspec

from fetafix.odds import Count

Kind = Literal["mutant", "control", "none"]


class Named(msgspec.Struct, frozen=True):
    """A finding in short."""

    code: str
    layer: str | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one task.

    code: the fault type's, or the control's name. kind: "none" where nothing was measured, `reason` says why. source,
    target: the forms. gate: which one the mutant passed; faults: what was done; layers: the ground truth.
    error, labels: relative L2 error and share of labels that differ, (before, after) the repair, on hidden samples;
    limit: the noise floor's bound for the former. edited: how many nodes the repair touched; beyond: those that the
    fault had not touched. seconds: of the repair. counts: what its journal counted, for the odds of fault types.
    """

    model: str
    scale: str
    code: str
    category: str
    seed: int
    kind: Kind
    source: str = ""
    target: str = ""
    gate: str = ""
    faults: list[str] = []
    layers: list[str] = []
    verdict: str = ""
    findings: list[Named] = []
    kept: list[str] = []
    detected: bool = False
    localized: bool = False
    diagnosed: bool = False
    repaired: bool = False
    worse: bool = False
    error: tuple[float | None, float | None] = (None, None)
    labels: tuple[float | None, float | None] = (None, None)
    limit: float | None = None
    edited: int = 0
    beyond: int = 0
    seconds: float = 0.0
    reason: str = ""
    counts: list[Count] = []

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same measurement."""
        return (self.model, self.scale, self.code, self.seed)

    @property
    def missed(self) -> list[str]:
        """Which aims a mutant missed."""
        aims = {"detected": self.detected, "localized": self.localized, "diagnosed": self.diagnosed,
                "repaired": self.repaired, "unharmed": not self.worse}
        return [name for name, met in aims.items() if not met] if self.kind == "mutant" else []
