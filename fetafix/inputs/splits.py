"""Which samples are used, and for what: seeded draws, each split into a search set and a held-out set.

Repairs are chosen on the search set and proven on the held-out set, so the two never share a sample. A round draws
without replacement; rounds draw anew and independently. With two or three samples one is held out; a single sample is
searched on and nothing is held out, which whoever judges must say. Data of which damage leaves less than two samples
where two could have been drawn is refused: nothing could be proven on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.errors import InputDataError, UsageError
from fetafix.inputs.samples import Progress, Source

Usable = Callable[[Sequence[int]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Split:
    """One round: disjoint, ascending indices into a source."""

    search: tuple[int, ...]
    heldout: tuple[int, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """All indices of the round, ascending."""
        return tuple(sorted((*self.search, *self.heldout)))


def draw_from(
    source: Source,
    samples: int,
    seed: int,
    rounds: int = 1,
    heldout: float = 0.5,
    progress: Progress | None = None,
) -> list[Split]:
    """As `draw`, from what a source can read; damaged samples are replaced, and named where too few remain."""
    try:
        return draw(len(source), samples, seed, rounds, heldout, lambda indices: source.usable(indices, progress))
    except InputDataError as error:
        named = "; ".join(source.skipped[:5]) + ("; …" if len(source.skipped) > 5 else "")
        raise InputDataError(f"{source.origin}: {error}{': ' if named else ''}{named}") from error


def draw(
    n_available: int,
    samples: int,
    seed: int,
    rounds: int = 1,
    heldout: float = 0.5,
    usable: Usable | None = None,
) -> list[Split]:
    """`rounds` draws of up to `samples` of `n_available` samples, `heldout` the share that is held out.

    usable: says which of some indices can be read (`Source.usable`); others are replaced by further draws, as long as
    there are any. Raises UsageError for impossible numbers, InputDataError where no sample is available or too few
    are usable.
    """
    if samples < 1:
        raise UsageError(f"expected at least 1 sample, found {samples}; set --samples to 1 or more")
    if seed < 0:
        raise UsageError(f"expected a seed of 0 or more, found {seed}")
    if rounds < 1 or not 0 <= heldout < 1:
        raise UsageError(f"expected rounds ≥ 1 and 0 ≤ heldout < 1, found rounds={rounds}, heldout={heldout}")
    if n_available < 1:
        raise InputDataError("the data holds no samples")
    return [_round(n_available, samples, np.random.default_rng([seed, r]), heldout, usable) for r in range(rounds)]


def _round(n: int, samples: int, rng: np.random.Generator, heldout: float, usable: Usable | None) -> Split:
    chosen = rng.choice(n, min(samples, n), replace=False).tolist()
    if usable:
        chosen = _replaced(chosen, n, rng, usable)
    count = _heldout_count(len(chosen), heldout)
    # rng.choice returns a random order, so that the first ones are a random subset.
    return Split(search=tuple(sorted(chosen[count:])), heldout=tuple(sorted(chosen[:count])))


def _replaced(chosen: list[int], n: int, rng: np.random.Generator, usable: Usable) -> list[int]:
    wanted, good = len(chosen), _kept(chosen, usable)
    if len(good) < wanted < n:
        rest = rng.permutation(np.setdiff1d(np.arange(n), chosen)).tolist()
        while len(good) < wanted and rest:
            missing = wanted - len(good)
            good += _kept(rest[:missing], usable)
            rest = rest[missing:]
    if len(good) < min(wanted, 2):
        raise InputDataError(f"{len(good) or 'none'} of {n} samples can be read, expected at least {min(wanted, 2)}")
    return good


def _kept(indices: list[int], usable: Usable) -> list[int]:
    fine = set(usable(indices))
    return [i for i in indices if i in fine]


def _heldout_count(n: int, share: float) -> int:
    """At least one for the search, and at least one held out where there are two, unless none is asked for."""
    return 0 if share == 0 else min(max(int(n * share), 1), n - 1)
