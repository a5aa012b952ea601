"""Plan routes: chains of converters from one format to another, cheapest first. Pure; no file is looked at.

A step costs 1 and its converter's own cost, 0.4 for each variant that is passed over, so that other options of a short
chain come before a longer one, and 0.5 where it only goes round within a family on the way to something else. At most
one step of a route departs from its first variant, and none where a shorter chain leads to the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from fetafix.convert.converters import CONVERTERS, TORCH, Converter
from fetafix.convert.kinds import Target

LONGEST = 4
_VARIANT = 0.4
_DETOUR = 1
_ROUND = 0.5
_FAMILIES = {**dict.fromkeys(TORCH, "torch"), "keras": "keras", "h5": "keras"}


@dataclass(frozen=True)
class Step:
    """One converter with its options, from one format to another. precision: of the TFLite file that it writes."""

    converter: Converter
    source: str
    options: Mapping[str, Any]
    precision: str = ""

    @property
    def target(self) -> str:
        """The format that it writes."""
        return self.converter.target

    @property
    def key(self) -> str:
        """Tells steps apart that do different things."""
        chosen = ",".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        return f"{self.source}>{self.converter.name}[{chosen}]>{self.target}{self.precision}"

    def describe(self) -> str:
        """For people: the converter with its options."""
        chosen = ", ".join(f"{k} {v}" for k, v in self.options.items())
        return f"{self.converter.name} ({chosen})" if chosen else self.converter.name


@dataclass(frozen=True)
class Route:
    """Steps in order; each reads what the one before it wrote."""

    steps: tuple[Step, ...]
    cost: float

    def describe(self) -> str:
        """For people: formats and converters in order."""
        return " → ".join([self.steps[0].source, *(f"{s.describe()} → {s.target}" for s in self.steps)])


def plan(
    source: str, target: Target, opset: int | None = None, exporter: str | None = None,
    converters: Sequence[Converter] | None = None,
) -> tuple[Route, ...]:
    """All routes worth a try, cheapest first; none where no chain of converters leads there.

    source, target: kinds of `fetafix.convert.kinds`. Chains longer by more than one step than the shortest are left
    out, and so are routes through a quantised file. opset, exporter: overrule the variants. converters: CONVERTERS
    unless others are given.
    """
    chains = sorted(_chains(source, target, CONVERTERS if converters is None else converters, LONGEST), key=len)
    shortest = len(chains[0]) if chains else 0
    routes: dict[tuple[str, ...], Route] = {}
    for chain in chains:
        if len(chain) <= shortest + _DETOUR:
            found = _variants(source, chain, target.precision, opset, exporter)
            for route in found if len(chain) == shortest else islice(found, 1):
                routes.setdefault(tuple(s.key for s in route.steps), route)
    return tuple(sorted(routes.values(), key=lambda r: r.cost))


def _chains(
    source: str, target: Target, converters: Sequence[Converter], longest: int, seen: tuple[str, ...] = ()
) -> Iterator[tuple[Converter, ...]]:
    """Chains without a format that comes twice."""
    for converter in converters:
        if source not in converter.sources or converter.target in (*seen, source):
            continue
        if converter.target == target.kind:
            if target.precision in converter.precisions:
                yield (converter,)
        elif longest > 1:
            for rest in _chains(converter.target, target, converters, longest - 1, (*seen, source)):
                yield (converter, *rest)


def _variants(
    source: str, chain: Sequence[Converter], precision: str, opset: int | None, exporter: str | None
) -> Iterator[Route]:
    """The chain with every step's first options, then with one step's other options."""
    choices = [_options(c, opset, exporter) for c in chain]
    if not all(choices):
        return
    kinds = [source, *(c.target for c in chain)]
    rounds = sum(_FAMILIES.get(a, a) == _FAMILIES.get(b) for a, b in pairwise(kinds[:-1]))
    base = sum(1 + c.cost for c in chain) + _ROUND * rounds
    for place in range(len(chain)):
        for number in range(0 if place == 0 else 1, len(choices[place])):
            picked = [number if i == place else 0 for i in range(len(chain))]
            cost = base + _VARIANT * sum(picked)
            steps = tuple(
                Step(c, kinds[i], choices[i][picked[i]], precision if i == len(chain) - 1 else "")
                for i, c in enumerate(chain))
            yield Route(steps, cost)


def _options(converter: Converter, opset: int | None, exporter: str | None) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for variant in converter.variants:
        if exporter is not None and variant.get("exporter", exporter) != exporter:
            continue
        changed = {**variant, "opset": opset} if opset is not None and "opset" in variant else variant
        if changed not in found:
            found.append(changed)
    return found
