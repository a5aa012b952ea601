"""Which samples a session uses: drawn once, in a random order, each for the search or held out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs import quantised
from fetafix.inputs.pairing import Side, pair_feeds
from fetafix.inputs.preprocess import parse
from fetafix.inputs.samples import SampleSet
from fetafix.inputs.sources import Source, open_source
from fetafix.inputs.splits import draw_from
from fetafix.inputs.synthetic import SyntheticSource
from fetafix.judge.binding import Bindings
from fetafix.options import Options
from fetafix.report import ModelInfo, Samples


@dataclass(frozen=True)
class Samplings:
    """Both models' samples, in the order in which they run: random, so that stopping early is fair.

    search, heldout: positions, disjoint. With several rounds a sample stays what its first round made it.
    """

    data: Source
    source: SampleSet
    target: SampleSet
    search: tuple[int, ...]
    heldout: tuple[int, ...]
    rounds: int

    def positions(self, which: str) -> tuple[int, ...]:
        """Positions of the "search" set, the "heldout" set (the search set where nothing is held out), or "all"."""
        if which == "all":
            return tuple(range(len(self.source)))
        return self.search if which == "search" or not self.heldout else self.heldout

    def record(self, used: int | None = None) -> Samples:
        """The record for the report, of the first `used` samples that ran (None: all)."""
        used = len(self.source) if used is None else used
        return Samples(
            search=sum(p < used for p in self.search), heldout=sum(p < used for p in self.heldout),
            origin=self.data.origin, skipped=list(self.data.skipped), rounds=self.rounds,
            stopped_early=used < len(self.source),
        )


def sides(
    source: ModelInfo, target: ModelInfo, bindings: Bindings, options: Options, target_preprocess: object = None
) -> tuple[Side, Side]:
    """Both models' inputs with their preprocessing. Raises ConfigError where that is malformed."""
    given = (options.source_preprocess, target_preprocess or options.target_preprocess)
    first, second = (parse(g) if g is not None else None for g in given)  # type: ignore[arg-type]
    return (
        Side(source.inputs, first, assumed=quantised.assumed(source)),
        Side(target.inputs, second, bindings.input_names, quantised.assumed(target)),
    )


def open_data(options: Options) -> Source:
    """What `data` names; malformed preprocessing is noticed, too. Raises InputDataError, UsageError, ConfigError."""
    for given in (options.source_preprocess, options.target_preprocess):
        if given is not None:
            parse(given)
    return open_source(options.data, trust=options.trust, seed=options.seed)


def vocabularies(source: ModelInfo, target: ModelInfo, bindings: Bindings) -> dict[str, int]:
    """Source input → how many ids both models know, as far as their files tell."""
    theirs = {bindings.input_names.get(k, k): v for k, v in target.details.get("vocabulary", {}).items()}
    ours = source.details.get("vocabulary", {})
    return {k: min(v for v in (ours.get(k), theirs.get(k)) if v) for k in (ours | theirs)}


def sample(
    data: Source, source: ModelInfo, target: ModelInfo, bindings: Bindings, options: Options
) -> Samplings:
    """Draw, and make both models' inputs. Raises InputDataError, ConfigError."""

    def progress(done: int, total: int) -> None:
        options.progress("reading samples", done, total)

    if isinstance(data, SyntheticSource):
        data = replace(data, bounds={**vocabularies(source, target, bindings), **data.bounds})
    rounds = draw_from(data, options.samples, options.seed, options.rounds, progress=progress)
    heldout: dict[int, bool] = {}
    for split in rounds:
        for index in split.indices:
            heldout.setdefault(index, index in split.heldout)
    order = np.random.default_rng([options.seed, len(heldout)]).permutation(sorted(heldout)).tolist()
    first, second = pair_feeds(data, order, *sides(source, target, bindings, options), progress)
    if len(first) != len(second) or not len(first):
        raise InputDataError(f"{data.origin}: no sample could be read; {'; '.join(data.skipped[:5])}")
    held = tuple(p for p, index in enumerate(first.indices) if heldout[index])
    search = tuple(p for p in range(len(first)) if p not in set(held))
    return Samplings(data, first, second, search, held, options.rounds)
