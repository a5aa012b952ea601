"""All pairs of a configuration, side by side, to one report: `gate(config.load("fetafix.yaml"))`."""

from __future__ import annotations

import datetime
import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fetafix import pair_options
from fetafix.config import LOADER, Config, Pair
from fetafix.errors import ConfigError, UsageError
from fetafix.executor import default_jobs, executor, processors
from fetafix.gate.pair import Job, examine, lost
from fetafix.gate.record import GateReport, PairResult
from fetafix.options import Options, Progress


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """How to gate a configuration.

    pairs: names of those to take, none for all. jobs: pairs at a time (None: one for two processors). cluster: the
    address of a Dask scheduler whose workers take the pairs instead. cache: the folder in which runs of sources are
    remembered, None for nowhere. threads: of each runtime (None: as the pair says, else the processors shared among
    the pairs at a time). limit: seconds that a pair may take, until it counts as undecided. exhibits: gather what a
    page shows. today: what expiry dates are held against (None: the system's date). progress: called as
    progress(stage, done, total).
    """

    pairs: Sequence[str] = ()
    jobs: int | None = None
    cluster: str | None = None
    cache: Path | None = None
    threads: int | None = None
    limit: float | None = None
    exhibits: bool = False
    today: datetime.date | None = None
    progress: Progress = field(default=lambda stage, done, total: None)


def gate(config: Config, options: GateOptions | None = None) -> GateReport:
    """Check every pair; localize those that fail, and hold their findings against what the configuration accepts.

    A pair of which a model cannot be opened or run is undecided, as is one whose every process died; the others go on.
    Raises ConfigError that names the pair for what is wrong with the configuration, UsageError for a cluster that
    cannot be reached.
    """
    wanted = options or GateOptions()
    start = time.perf_counter()
    work = jobs_of(config, wanted)
    results: dict[int, PairResult] = {}
    with executor(wanted.jobs, wanted.cluster, wanted.limit) as crew:
        wanted.progress("pairs", 0, len(work))
        for outcome in crew.run(examine, work):
            job = work[outcome.index]
            if isinstance(outcome.error, UsageError):
                raise ConfigError(f"{config.path}: pair {job.name!r}: {outcome.error}") from outcome.error
            found = outcome.result() if outcome.error is None else lost(job, outcome.error)
            results[outcome.index] = found
            wanted.progress("pairs", len(results), len(work))
    pairs = [results[i] for i in range(len(work))]
    return GateReport(
        config=config.path, pairs=pairs, notes=_misnamed(work, pairs), seconds=round(time.perf_counter() - start, 3))


def jobs_of(config: Config, wanted: GateOptions) -> list[Job]:
    """What is to be done, in the configuration's order. Raises ConfigError."""
    names = named(config)
    unknown = next((n for n in wanted.pairs if n not in names), None)
    if unknown is not None:
        raise ConfigError(f"{config.path} has no pair {unknown!r}; it has {', '.join(names)}")
    threads = max(1, processors() // (2 * min(wanted.jobs or default_jobs(), len(names))))
    chosen = [(n, p) for n, p in zip(names, config.pairs, strict=True) if not wanted.pairs or n in wanted.pairs]
    return [_job(config, name, pair, threads, wanted) for name, pair in chosen]


def named(config: Config) -> list[str]:
    """A name for each pair. Raises ConfigError where there is no pair, or two have the same name."""
    if not config.pairs:
        raise ConfigError(f"{config.path} has no pairs: there is nothing to gate")
    names = config.names
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(f"{config.path}: two pairs are called {twice!r}")
    return names


def _job(config: Config, name: str, pair: Pair, threads: int, wanted: GateOptions) -> Job:
    source, target = pair.models()
    try:
        pair_options.check(pair, "the configuration")
        _there(pair)
        given: dict[str, Any] = {"threads": threads, **pair_options.options(pair)}
        if wanted.threads is not None:
            given["threads"] = wanted.threads
        options = replace(Options(**given), exhibits=wanted.exhibits, cache=wanted.cache, accept=())
    except UsageError as error:
        raise ConfigError(f"{config.path}: pair {name!r}: {error}") from error
    today = wanted.today or datetime.date.today()
    return Job(name=name, source=source.model, target=target.model, options=options, accept=tuple(pair.accept),
               today=today)


def _misnamed(work: Sequence[Job], pairs: Sequence[PairResult]) -> list[str]:
    """Accepted codes that met no finding, since there is no such fault type, with the nearest that there is."""
    entries = [(j.name, e.code) for j, p in zip(work, pairs, strict=True) if p.unused for e in j.accept]
    if not entries:
        return []
    from fetafix.faults import catalogue

    known = list(catalogue())
    near = {code: difflib.get_close_matches(code, known, n=1) for _, code in entries if code not in known}
    return [f"pair {name!r} accepts {code!r}, which is no fault type; did you mean {near[code][0]!r}?"
            for name, code in dict.fromkeys(entries) if near.get(code)]


def _there(pair: Pair) -> None:
    """Raise UsageError where a file that a pair names is missing, before anything runs."""
    for side, model in zip(("source", "target"), pair.models(), strict=True):
        if not Path(model.model).exists():
            raise UsageError(f"the {side} {model.model} is not there; paths are relative to the configuration")
    if pair.data is not None and not LOADER.fullmatch(pair.data) and not Path(pair.data).exists():
        raise UsageError(f"the data {pair.data} is not there; paths are relative to the configuration")
