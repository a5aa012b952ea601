"""What a caller may ask of `stress`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fetafix.errors import UsageError
from fetafix.formats.base import OpenOptions
from fetafix.storage.encodings import INT8, Encoding, encoding
from fetafix.storage.left_over import CHECKS
from fetafix.storage.schemes import SCHEMES, Plan
from fetafix.storage.sweep import rates
from fetafix.storage.trials import LEAST, MOST, Rule

Progress = Callable[[str, int, int | None], None]
SCOPES = ("weights", "constants", "tensors", "file")
GRANULARITIES = ("tensor", "channel")
KEEP = "keep"
BESIDE = "rs"  # the one scheme that protects whatever lies there, by check bytes beside it
STRESSED = (*SCHEMES, BESIDE)
FULL = 20


@dataclass(frozen=True, slots=True)
class Storing:
    """How weights are stored. plan: None for as they are in the file. checks: check bytes of each codeword beside."""

    plan: Plan | None = None
    checks: int = 0

    @property
    def dtype(self) -> str:
        """The number format, by the users' name."""
        return KEEP if self.plan is None else named(self.plan.encoding)

    @property
    def scheme(self) -> str:
        """The protection."""
        return BESIDE if self.checks else "none" if self.plan is None else self.plan.scheme


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def storing(dtype: str, scheme: str) -> Storing:
    """How weights are stored. Raises UsageError for what makes no sense."""
    if scheme not in STRESSED:
        raise UsageError(f"expected --scheme to be one of {', '.join(STRESSED)}, found {scheme!r}")
    if scheme == BESIDE:
        return Storing(None if dtype == KEEP else Plan(encoding(dtype)), CHECKS)
    if dtype == KEEP:
        if scheme != "none":
            raise UsageError(f"--scheme {scheme} stores weights anew, so say how: --dtype fp32, fp16, bf16, q2.5, int8")
        return Storing()
    return Storing(Plan(encoding(dtype), scheme))  # type: ignore[arg-type]


def named(format: Encoding) -> str:
    """How users call a number format: int8 is Q0.7, whose scale fits the weights."""
    return "int8" if format == INT8 else format.name


@dataclass(frozen=True, kw_only=True)
class StressOptions:
    """How to stress models. Raises UsageError where a value makes no sense.

    ber: the sweep, "1e-8..1e-2" or "1e-6,1e-5". data, samples, seed, batch, preprocess, trust, arch: as for `check`.
    labels: a file of labels. output: which output holds the class scores. scope: what flips strike. dtypes, schemes:
      each of these storages is tried on each model. granularity: of constants and bounds.
    max_drop: the drop of accuracy that is tolerated, a share. survival: the probability to stay within it that is asked
      for; confidence: of bounds and decisions. trials: "auto", "auto:N" (at most N) or a fixed number.
    full: so many trials a rate, the first ones, run over all samples; later ones end once the drop exceeds the
      tolerance for certain. jobs: trials at the same time (None: the processors). keep: a folder for every trial's
      result, to go on from. require: the rate that must be tolerated. opening: further options of the runtime.
    """

    ber: str = "1e-8..1e-2"
    per_decade: int = 1
    data: str | Path | None = None
    labels: str | Path | None = None
    samples: int = 500
    seed: int = 0
    batch: int | None = None
    preprocess: str | None = None
    output: str | None = None
    scope: Literal["weights", "constants", "tensors", "file"] = "weights"
    dtypes: tuple[str, ...] = (KEEP,)
    schemes: tuple[str, ...] = ("none",)
    granularity: Literal["tensor", "channel"] = "tensor"
    max_drop: float = 0.01
    survival: float = 0.95
    confidence: float = 0.95
    trials: str = "auto"
    full: int = FULL
    jobs: int | None = None
    keep: str | Path | None = None
    require: float | None = None
    opening: OpenOptions = field(default_factory=OpenOptions)
    progress: Progress = _silent

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is opened."""
        for name, low in {"samples": 1, "seed": 0, "full": 0, "per_decade": 1, "jobs": 1, "batch": 1}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"expected {name} ≥ {low}, found {value}")
        for name in ("survival", "confidence"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise UsageError(f"{name} lies between 0 and 1, found {getattr(self, name)}")
        if not 0.0 <= self.max_drop < 1.0:
            raise UsageError(f"the tolerated drop is a share, 0.01 or 1pt, found {self.max_drop}")
        if self.scope not in SCOPES or self.granularity not in GRANULARITIES:
            raise UsageError(f"expected a scope of {', '.join(SCOPES)} and a granularity of {', '.join(GRANULARITIES)}")
        _ = self.rates, self.rule, self.storings

    @property
    def rates(self) -> tuple[float, ...]:
        """The bit-error rates, ascending."""
        return rates(self.ber, self.per_decade)

    @property
    def rule(self) -> Rule:
        """When trials end."""
        word, _, most = self.trials.partition(":")
        if word == "auto" and (not most or most.isdecimal()):
            limit = int(most) if most else MOST
            return Rule(self.survival, self.confidence, None, min(LEAST, limit), max(1, limit))
        if self.trials.isdecimal() and int(self.trials):
            return Rule(self.survival, self.confidence, int(self.trials))
        raise UsageError(f"expected --trials auto, auto:N or a number of 1 or more, found {self.trials!r}")

    @property
    def storings(self) -> tuple[Storing, ...]:
        """All storages asked for; combinations that make no sense are left out where others remain."""
        found: list[Storing] = []
        refused: list[UsageError] = []
        for dtype in self.dtypes:
            for scheme in self.schemes:
                try:
                    found.append(storing(dtype, scheme))
                except UsageError as error:
                    refused.append(error)
        if not found or (refused and len(self.dtypes) == len(self.schemes) == 1):
            raise refused[0]
        return tuple(found)


def share(text: str) -> float:
    """A drop: "1pt" or "1%" are one point, "0.01" the same. Raises UsageError."""
    stripped = text.strip().lower()
    unit = next((u for u in ("points", "point", "pts", "pt", "%") if stripped.endswith(u)), "")
    try:
        value = float(stripped.removesuffix(unit)) / (100.0 if unit else 1.0)
    except ValueError:
        raise UsageError(f"expected a drop such as 1pt or 0.01, found {text!r}") from None
    if not 0.0 <= value < 1.0:
        raise UsageError(f"expected a drop between 0 and 100 points, found {text!r}; 1pt is 0.01")
    return value
