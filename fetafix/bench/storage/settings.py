"""What the benchmark of storage faults crosses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from fetafix.config import Record, load_as
from fetafix.errors import UsageError
from fetafix.storage.sweep import rates
from fetafix.stress.options import GRANULARITIES, StressOptions, storing

ARCHITECTURES = ("alexnet", "resnet18", "resnet50", "densenet169")
NETWORKS = ("digits", "resnet20", "resnet56", "squeezenet", "mobilenet")
STORAGES = (
    "fp32 none", "fp32 scale", "fp32 ceiling", "fp32 guard", "fp32 guard channel", "fp32 secded",
    "fp32 rs",
    "fp16 none", "fp16 scale", "fp16 ceiling", "fp16 guard channel",
    "bf16 none", "bf16 scale", "bf16 ceiling", "bf16 guard channel",
    "q2.5 none", "q2.5 scale", "q2.5 scale channel", "q2.5 guard channel",
    "int8 none", "int8 none channel", "int8 guard channel",
)  # fmt: skip
_Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(Record, frozen=True, kw_only=True):
    """networks: measured ones. architectures: analytic ones, by torchvision's names. storages: "format scheme", with
    "channel" behind it for a constant and bound each output channel ("q2.5 scale" is the paper's scheme).

    ber: the sweep. images, trials: for each, and `full_` ones with --full; trials as for `fetafix stress`. shapes: of
    weights, (output channels, …), for architectures where torchvision is not installed. seed: of flips and weights.
    """

    networks: list[str] = msgspec.field(default_factory=lambda: list(NETWORKS))
    architectures: list[str] = msgspec.field(default_factory=lambda: list(ARCHITECTURES))
    storages: list[str] = msgspec.field(default_factory=lambda: list(STORAGES))
    ber: str = "1e-7..1e-2"
    images: _Count = 50
    trials: str = "10"
    full_images: _Count = 360
    full_trials: str = "auto:100"
    shapes: dict[str, list[list[int]]] = {}
    seed: int = 0

    def checked(self) -> Settings:
        """The settings. Raises UsageError that names what is unknown."""
        for name in self.networks:
            if name not in NETWORKS:
                raise UsageError(f"no network {name!r} is measured; known: {', '.join(NETWORKS)}")
        for text in self.storages:
            split(text)
        StressOptions(ber=self.ber, trials=self.trials)
        StressOptions(ber=self.ber, trials=self.full_trials)
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """The bit-error rates of the sweep."""
        return rates(self.ber)


def split(text: str) -> tuple[str, str, str]:
    """(number format, scheme, granularity) of "q2.5 scale channel". Raises UsageError."""
    words = text.split()
    if len(words) not in (2, 3) or (len(words) == 3 and words[2] not in GRANULARITIES):
        raise UsageError(f"expected a storage such as 'fp32 guard' or 'q2.5 scale channel', found {text!r}")
    storing(words[0], words[1])
    return words[0], words[1], words[2] if len(words) == 3 else GRANULARITIES[0]


def load(path: str | Path) -> Settings:
    """Settings of a YAML file. Raises ConfigError that names the line."""
    return load_as(Settings, path).checked()


def narrowed(settings: Settings, models: str | None, full: bool) -> Settings:
    """Settings with what the command line names instead. Raises UsageError."""
    changes: dict[str, object] = {}
    if models:
        named = [m.strip() for m in models.split(",") if m.strip()]
        changes["networks"] = [m for m in named if m not in ARCHITECTURES]
        changes["architectures"] = [m for m in named if m in ARCHITECTURES]
    if full:
        changes |= {"images": settings.full_images, "trials": settings.full_trials}
    return msgspec.structs.replace(settings, **changes).checked()
