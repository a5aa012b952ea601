"""Which layers a chart shows: all of them, or, of thousands, those that matter and the peaks in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from fetafix.exhibits import LayerError

LIMIT = 160
SERIES: tuple[Callable[[LayerError], float | None], ...] = (
    lambda e: e.carried, lambda e: e.introduced, lambda e: e.after,
)  # fmt: skip


def known(value: float | None) -> float | None:
    """A number that can be drawn: not negative and finite."""
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def marked(error: LayerError) -> bool:
    """Whether a layer is pointed out."""
    return error.guilty or bool(error.findings)


def picked(layers: Sequence[LayerError], limit: int = LIMIT) -> list[int]:
    """Positions of the layers to show, in order, about `limit` of them at most.

    Those with findings come first, then those that introduce error, largest first; the rest of the room goes to equal
    stretches of the network, each with the largest value of every series, so that no peak is lost.
    """
    if len(layers) <= limit:
        return list(range(len(layers)))
    wanted = sorted((i for i, e in enumerate(layers) if marked(e)), key=lambda i: _weight(layers[i]))
    chosen = {0, len(layers) - 1, *wanted[: limit // 2]}
    stretches = max((limit - len(chosen)) // len(SERIES), 1)
    for k in range(stretches):
        stretch = range(k * len(layers) // stretches, (k + 1) * len(layers) // stretches)
        chosen.update(_peaks(layers, stretch))
    return sorted(chosen)


def _weight(error: LayerError) -> tuple[bool, float]:
    return not error.findings, -(known(error.introduced) or 0.0)


def _peaks(layers: Sequence[LayerError], stretch: Iterable[int]) -> Iterable[int]:
    positions = list(stretch)
    for value in SERIES:
        there = [i for i in positions if known(value(layers[i])) is not None]
        if there:
            yield max(there, key=lambda i: known(value(layers[i])) or 0.0)
