"""Localization beyond the samples: on inputs of other shapes that a search found, and behind faults that mask others.

The first look uses a few samples and the found inputs that stand beside them. Inputs of another size, or that need a
certain batch, get a look of their own, which starts from the target as healed so far. Where the samples themselves
disagree, no search of the models as they are can tell what else is wrong; so once everything that was found is healed
in the lifted graph, a few inputs are tried on that graph against the source's: what still differs was masked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fetafix import boundary
from fetafix.annex import Annex, Carry, annexed
from fetafix.boundary import CLEARLY, Allowance, Budget, Candidate, Feeds, Scores
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType
from fetafix.inputs import targeted
from fetafix.inputs.targeted import Space
from fetafix.ir import Array, Graph
from fetafix.judge.noise import SAFETY
from fetafix.localize import Located
from fetafix.rivals import shaken
from fetafix.treat import Progress, Treatment, treat
from fetafix.workbench import Workbench

_ANNEXES, _RANGE = 3, 16
_CHEAP = 1 << 22  # values that the source computes for a sample: a quick search leaves larger models alone
_EXACT, _ROUGH = 1e-4, 1e-3  # of the largest answer
_STRONGEST = ("negative values only", "saturated", "few distinct values (ties)")  # what a quick search can afford
_DEEP = Budget(probes=26, pairs=4, steps=3, generations=6, children=8)


def further(
    bench: Workbench, located: Located, catalogue: Sequence[FaultType], agree: bool, progress: Progress | None = None
) -> Located:
    """What was located, and what shows only on other inputs. agree: the samples did, so that nothing masks the rest.

    The session gets inputs that are found here as annexes, so that a repair is judged on them.
    """
    session = bench.session
    if session.options.search == "off" or located.treatment.unrelated or located.preprocess:
        return located
    for annex in [a for a in session.annexes if not a.alike][:_ANNEXES]:
        located = _beside(bench, located, catalogue, annex, progress)
    if session.quantised:  # inputs beside the data leave the ranges that it was calibrated for
        return located
    if not agree and located.steps and not located.treatment.remaining:
        annex_found = _masked(bench, located.treatment.target)
        if annex_found is not None:
            session.annexes = (*session.annexes, annex_found)
            located = _beside(bench, located, catalogue, annex_found, progress)
    return located


def _beside(
    bench: Workbench, located: Located, catalogue: Sequence[FaultType], annex: Annex, progress: Progress | None
) -> Located:
    """Localization on an annex, from the target as healed so far."""
    folder = bench.folder / f"annex{len(list(bench.folder.iterdir()))}"
    folder.mkdir()
    try:
        with Workbench(bench.session, folder, annex) as other:
            start = located.treatment.target
            if {n.key for n in other.target.nodes} != {n.key for n in bench.target.nodes}:
                return located  # another lift: what was found in one does not fit the other
            made = treat(other.align, start, catalogue, progress)
    except FetafixError:
        return located
    return replace(located, steps=(*located.steps, *made.steps), treatment=_joined(located.treatment, made))


def _joined(first: Treatment, second: Treatment) -> Treatment:
    if second.unrelated:
        return first
    return replace(
        first, steps=(*first.steps, *second.steps), target=second.target, last=second.last or first.last,
        remaining=(*first.remaining, *second.remaining), reason=second.reason if second.remaining else first.reason,
    )  # fmt: skip


def _masked(bench: Workbench, healed: Graph) -> Annex | None:
    """Inputs on which the healed lift still differs from the source's."""
    session = bench.session
    carried = session.carried
    if carried is None or not session.samplings.source.stackable or bench.count < 2:
        return None
    samples = {n: np.asarray(v) for n, v in bench.source_feeds.items()}
    deep = session.options.search == "deep"
    if not deep and _values(bench) > _CHEAP:
        return None
    lifts = _Lifts(bench, healed, carried, deep)
    if not lifts.allowed:
        return None
    space = Space.of({n: np.asarray(v) for n, v in session.sets("search", _RANGE)[0].arrays.items()})
    hunt = boundary.Search(lifts.run, samples, space, np.random.default_rng([session.options.seed, 31]))
    probes = targeted.probes(samples, space, _DEEP.probes)
    few = [p for p in probes if p.what in _STRONGEST][: len(_STRONGEST)]
    hunt.all(probes if deep else few, _DEEP if deep else Budget())
    found = [c for c in hunt.worst() if c.probe.inside][:4]
    if found and len(found) < 4:
        found += [c for c in hunt.kin(found[0], 4) if c.probe.inside]
    found = [c for c in found if lifts.steady(c)]
    if not found:
        return None
    arrays = {n: np.stack([c.probe.feeds[n] for c in found]) for n in samples}
    names = [f"found input ({c.probe.what})" for c in found]
    return annexed(carried, session.samplings.source, arrays, names, range(1, len(found), 2))


def _values(bench: Workbench) -> int:
    """How many values the source's lift computes for one sample."""
    shapes = (bench.source.shapes.get(t, ()) for n in bench.source.nodes for t in n.outputs if t)
    return sum(math.prod(d for d in s if isinstance(d, int)) for s in shapes) // max(1, bench.count)


class _Lifts:
    """Both lifted graphs side by side."""

    def __init__(self, bench: Workbench, healed: Graph, carried: Carry, exact: bool) -> None:
        """exact: measure how far the healed lift is off on the samples, which takes a run of it."""
        self._bench, self._healed, self._carried = bench, healed, carried
        self._names = {s: t for t, s in bench.session.bindings.output_names.items() if t in healed.output_names}
        self.allowed = self._allowances(exact)

    def run(self, feeds: Feeds) -> Scores:
        """Feeds (N, *item) by source input → scores; nothing where a graph cannot run them."""
        try:
            return boundary.scores(self._ours(feeds), self._theirs(feeds), self.allowed)
        except FetafixError:
            nothing = np.zeros(len(next(iter(feeds.values()))))
            return Scores(nothing, np.stack([nothing, nothing], 1), nothing)

    def steady(self, candidate: Candidate) -> bool:
        """Whether rounding at the input does not move the source's answer as far."""
        feeds = {n: v[None] for n, v in candidate.probe.feeds.items()}
        base, moved = self._ours(feeds), self._ours(shaken(feeds, 0))
        grown = {n: Allowance(SAFETY * float(np.abs(base[n] - moved[n]).max(initial=0.0)), 0.0, 0.0) for n in base}
        return bool(boundary.scores(base, self._theirs(feeds), grown).excess[0] > CLEARLY)

    def _ours(self, feeds: Feeds) -> dict[str, Array]:
        names = list(self._names)
        return dict(zip(names, self._bench.evaluator.run(self._bench.source, feeds, names), strict=True))

    def _theirs(self, feeds: Feeds) -> dict[str, Array]:
        given = self._carried(feeds).arrays
        values = self._bench.evaluator.run(self._healed, given, list(self._names.values()))
        bound = {b.source: b for b in self._bench.session.bindings.outputs}
        return {n: bound[n].to_source(v) for n, v in zip(self._names, values, strict=True)}

    def _allowances(self, exact: bool) -> dict[str, Allowance]:
        """From the healed lift's own error on the samples, which is within the noise; none where it is not known."""
        ours = {n: self._bench.aligner.values[n] for n in self._names if n in self._bench.aligner.values}
        try:
            theirs = self._theirs(self._bench.source_feeds) if exact else ours
        except FetafixError:
            return {}
        made = {}
        for name, value in ours.items():
            if value.shape != theirs[name].shape or value.dtype.kind not in "fiub":
                return {}
            numbers = np.asarray(value, np.float64)
            scale, left = (float(np.abs(v).max(initial=0.0)) for v in (numbers, numbers - theirs[name]))
            least = (_EXACT if exact else _ROUGH) * scale if value.dtype.kind == "f" else 0.0
            floor = SAFETY * self._bench.session.noise.floor(name).max_abs
            made[name] = Allowance(max(floor, SAFETY * left, least), 0.0, scale)
        return made if len(made) == len(self._names) else {}
