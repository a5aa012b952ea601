"""What the benchmark crosses, and when a mutant counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from fetafix.bench.zoo import FORMS, MODELS, Form, Scale
from fetafix.config import Record, load_as
from fetafix.errors import UsageError
from fetafix.faults import catalogue, get

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Size = Annotated[float, msgspec.Meta(gt=0)]
Pair = tuple[Form, Form]
PAIRS: tuple[Pair, ...] = (
    ("plain", "folded"), ("plain", "dynamo"), ("folded", "dynamo"), ("dynamo", "folded"), ("plain", "renamed"),
)
ONLY: Mapping[str, tuple[Pair, ...]] = {
    "wb-bn-fold": (("plain", "renamed"),), "QP": (("quantised", "requantised"),),
}
NUMERIC = ("wb-precision", "lh-bn-eps", "lh-ln-eps", "lh-in-gn", "lh-gelu", "lh-cubic-a", "qp-implicit-dequant",
           "dt-eps-underflow", "op-softmax")
INTERFACE = ("id-layout", "id-size", "id-baked-batch", "cg-extra-output", "op-output-order", "op-class-offset")


class Gates(Record, frozen=True, kw_only=True):
    """When a mutant counts: it loads, keeps its shapes, and its outputs are off by `error` (relative L2) at least.

    Beyond that at least one label of the samples changes, but for the codes in `numeric`, which by nature change
    numbers, and those in `interface`, which change what the model takes or gives (shapes may differ, runs may fail).
    """

    error: _Size = 1e-4
    numeric: list[str] = msgspec.field(default_factory=lambda: list(NUMERIC))
    interface: list[str] = msgspec.field(default_factory=lambda: list(INTERFACE))

    def of(self, code: str) -> str:
        """The gate that holds for a fault type."""
        return "interface" if code in self.interface else "numeric" if code in self.numeric else "labels"


class Settings(Record, frozen=True, kw_only=True):
    """models: networks of the zoo. codes: fault types, all where it is empty. seeds: each draws a place and values.

    pairs: (source's, target's) forms; each is a mutant's in its turn. Fault types that `only` names, by code or
    category, have other pairs, for want of evidence or of a place in the usual ones. samples: how many are given to the
    repair; `hidden` further ones are kept for the score. noise: how many times the noise floor a repaired model may be
    off. draws: how many places are tried until one passes its gate. seconds: after which a repair is given up.
    """

    models: list[str] = msgspec.field(default_factory=lambda: list(MODELS))
    codes: list[str] = []
    scale: Scale = "small"
    seeds: Annotated[list[int], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: [0, 1, 2])
    pairs: Annotated[list[Pair], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: list(PAIRS))
    only: dict[str, list[Pair]] = msgspec.field(default_factory=lambda: {k: list(v) for k, v in ONLY.items()})
    samples: _Count = 32
    hidden: _Count = 16
    zoo_seed: int = 0
    noise: _Size = 4.0
    draws: _Count = 6
    seconds: _Size = 600.0
    gates: Gates = Gates()

    def pairs_of(self, code: str) -> list[Pair]:
        """The pairs of forms for a fault type."""
        return self.only.get(code) or self.only.get(get(code).category) or self.pairs

    @property
    def forms(self) -> list[Form]:
        """All forms that any pair of these fault types has."""
        every = [*self.pairs, *(p for code in self.codes for p in self.pairs_of(code))]
        return [f for f in FORMS if any(f in pair for pair in every)]

    def checked(self) -> Settings:
        """The settings with every code as the catalogue writes it. Raises UsageError that names what is unknown."""
        unknown = [m for m in self.models if m not in MODELS]
        if unknown:
            raise UsageError(f"the zoo has no {unknown[0]!r}; known: {', '.join(MODELS)}")
        categories = {f.category for f in catalogue().values()}
        for code in (*self.gates.numeric, *self.gates.interface, *(c for c in self.only if c not in categories)):
            get(code)
        codes = [get(c).code for c in self.codes] or list(catalogue())
        return msgspec.structs.replace(self, codes=codes)


def load(path: str | Path) -> Settings:
    """Settings of a YAML file. Raises ConfigError that names the line."""
    return load_as(Settings, path).checked()


def narrowed(
    settings: Settings, models: str | None, codes: str | None, seeds: str | None, scale: str | None
) -> Settings:
    """Settings with what the command line names instead; a category stands for its codes. Raises UsageError."""
    changes: dict[str, object] = {}
    if models:
        changes["models"] = _listed(models)
    if codes:
        changes["codes"] = [c for part in _listed(codes) for c in _of_category(part) or [part]]
    if seeds:
        changes["seeds"] = _numbers(seeds)
    if scale:
        changes["scale"] = scale
    return msgspec.structs.replace(settings, **changes).checked()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _of_category(text: str) -> list[str]:
    return [f.code for f in catalogue().values() if f.category == text]


def _numbers(text: str) -> list[int]:
    parts = _listed(text)
    if not parts or not all(p.isdecimal() for p in parts):
        raise UsageError(f"expected seeds such as 0,1,2, found {text!r}")
    return [int(p) for p in parts]
