"""Both models of a session on inputs that somebody makes up: how far they differ there, beyond what noise explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fetafix import boundary, probing
from fetafix.annex import Carry
from fetafix.boundary import CLEARLY, Allowance, Candidate, Feeds, Scores
from fetafix.errors import ModelError
from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.judge.labels import class_scores
from fetafix.judge.noise import EPS, SAFETY
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.session import Session

_DRIFT = 4.0  # times what the samples differ by, other inputs may
_SHAKES, _ULPS = 3, 4.0


class Rivals:
    """The source and a target, run side by side. tried: inputs so far; turned: labels that turned within the drift."""

    def __init__(self, session: Session, judgement: Judgement, carried: Carry, target: ModelProcess) -> None:
        self.session, self.carried, self.target = session, carried, target
        self.outputs = judgement.bindings.outputs
        self.allowed = allowances(session, judgement)
        self._head = next((n for n, h in session.heads.items() if h.classifier == "yes"), "")
        self.tried = self.turned = 0

    def run(self, feeds: Feeds, batch: int | None = None) -> Scores:
        """Feeds (N, *item) by source input. Where one of the models cannot run them there is nothing to show."""
        count = len(next(iter(feeds.values())))
        self.tried += count
        sets = self._set(feeds), self.carried(feeds)
        size = batch or self.session.options.batch
        try:
            running = [p.start_run(probing.sources(s), size, s.stackable)
                       for p, s in zip((self.session.source, self.target), sets, strict=True)]
            ours, theirs = (probing.by_sample(r.result(), s) for r, s in zip(running, sets, strict=True))
        except ModelError:
            return Scores(np.zeros(count), np.zeros((count, 2)), np.zeros(count))
        first = {b.source: ours[b.source] for b in self.outputs}
        second = {b.source: b.to_source(theirs[b.target], first[b.source].shape) for b in self.outputs}
        head = self._head if self._head and class_scores(first[self._head]) is not None else ""
        scores = boundary.scores(first, second, self.allowed, head)
        if scores.labels is not None:
            self.turned += int(((scores.labels[:, 0] != scores.labels[:, 1]) & (scores.excess <= CLEARLY)).sum())
        return scores

    def confirmed(self, found: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """(beyond what rounding does to the source's answer right there, within it)."""
        if not found:
            return [], []
        floors = self._floors({n: np.stack([c.probe.feeds[n] for c in found]) for n in found[0].probe.feeds})
        sure: list[Candidate] = []
        unsure: list[Candidate] = []
        for i, candidate in enumerate(found):
            shares = (SAFETY * f[i] / max(self.allowed[n].absolute, 1e-30) for n, f in floors.items())
            moved = max((s for s in shares if s > 0), default=0.0)
            (sure if candidate.excess > CLEARLY * max(1.0, moved) else unsure).append(candidate)
        return sure, unsure

    def _floors(self, feeds: Feeds) -> dict[str, Array]:
        """By output: how far the source's answer to each input moves under changes that mean nothing."""
        versions = [feeds, *(shaken(feeds, k) for k in range(_SHAKES)), feeds]
        sets = [self._set(f) for f in versions]
        try:
            running = [self.session.source.start_run(probing.sources(s), 1, s.stackable, i == len(sets) - 1)
                       for i, s in enumerate(sets)]
            base, *others = (probing.by_sample(r.result(), s) for r, s in zip(running, sets, strict=True))
        except ModelError:
            return {}
        names = [b.source for b in self.outputs]
        return {n: np.max([_largest(base[n], o[n]) for o in others], axis=0) for n in names}

    def _set(self, feeds: Feeds) -> SampleSet:
        batched = self.session.samplings.source.batched
        return SampleSet(dict(feeds), batched, (-1,) * len(next(iter(feeds.values()))))


def allowances(session: Session, judgement: Judgement) -> dict[str, Allowance]:
    """What the outputs may differ by: the tolerance, or a multiple of what they differ by on the samples."""
    found = {}
    for name, t in session.tolerances(judgement).items():
        e = judgement.comparison.errors.get(name)
        drift = (_DRIFT * e.max_abs, _DRIFT * (e.rel_l2 or 0.0)) if e is not None else (0.0, 0.0)
        relative = max(t.rel_l2, drift[1]) if t.rel_l2 is not None else 0.0
        found[name] = Allowance(max(t.max_abs or 0.0, drift[0]), relative, e.scale if e is not None else 0.0)
    return found


def shaken(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Feeds whose floats are moved by a few units in the last place, of themselves and of the largest value."""
    rng = np.random.default_rng([seed, 29])
    made = {}
    for name, value in feeds.items():
        if value.dtype.kind == "f":
            step = _ULPS * max(EPS, float(np.finfo(value.dtype).eps))
            largest = float(np.abs(value).max(initial=0.0))
            own, all_alike = (rng.uniform(-step, step, value.shape) for _ in range(2))
            made[name] = (value * (1 + own) + all_alike * largest).astype(value.dtype)
        else:
            made[name] = value
    return made


def _largest(a: Array, b: Array) -> Array:
    """Largest absolute difference of each answer; inf for another shape or where only one is finite."""
    if a.shape != b.shape:
        return np.full(len(a), np.inf)
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).reshape(len(a), -1)
    same = np.asarray(a == b).reshape(len(a), -1)
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return np.asarray(difference.max(1, initial=0.0))
