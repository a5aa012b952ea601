"""Search for inputs on which two models disagree, from real samples, given only two functions that run them.

Three ways, in this order, each bounded and seeded:
- targeted probes, as they are given;
- between samples of different labels: halving the way to the boundary, where the two best labels are closest; where
  there are no labels, points between samples;
- evolution: the best inputs so far are scaled, mixed with samples, and changed in blocks, within the observed range.
  While nothing disagrees yet, inputs count as better whose answers are unlike those to the samples: what no sample
  reaches may hide behind them.

What counts as disagreement is a number: the difference divided by what noise explains at that input (`Scores.excess`),
never a label alone, which any rounding turns over near a boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fetafix.inputs.targeted import Probe, Space
from fetafix.ir import Array

Feeds = Mapping[str, Array]
Outputs = Mapping[str, Array]
CLEARLY = 2.0  # times what noise explains
_ENOUGH = 8
_PARENTS = 4


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far two answers of one output may be apart. scale: the largest value among the answers to the samples.

    absolute: at that scale; it grows with answers beyond it. relative: as relative L2 of one answer, 0 where the
    absolute difference alone counts.
    """

    absolute: float
    relative: float
    scale: float


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """What one run of both models says of N inputs.

    excess (N,): the difference over what is allowed, inf for another shape or numbers that are not finite. odd (N, 2):
    how large, and how far below zero, the source's answer is, in sizes of those to the samples. labels (N, 2): the
    source's and the target's best class, or None. largest (N,): the largest absolute difference.
    """

    excess: Array
    odd: Array
    largest: Array
    labels: Array | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """An input and what it shows; `labels` None where the output has none."""

    probe: Probe
    excess: float
    largest: float
    labels: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many inputs are tried. pairs: of samples, whose boundary is looked for in `steps` steps."""

    probes: int = 8
    pairs: int = 0
    steps: int = 0
    generations: int = 0
    children: int = 0


@dataclass
class Search:
    """One search. run: both models on feeds (N, *item) → scores; it may leave out what cannot run (excess 0)."""

    run: Callable[[Feeds], Scores]
    samples: Feeds
    space: Space
    rng: np.random.Generator
    tried: int = 0
    found: list[Candidate] = field(default_factory=list)
    _pool: list[tuple[tuple[float, float, float], dict[str, Array]]] = field(default_factory=list)

    def all(self, probes: Sequence[Probe], budget: Budget) -> list[Candidate]:
        """Everything that the budget allows; the candidates found, the worst first."""
        self.look(probes)
        if budget.pairs and not self._done:
            self._between(budget)
        for _ in range(budget.generations):
            if self._done:
                break
            self.look([Probe(i, "found by evolution", True) for i in self._children(budget.children)])
        return self.worst()

    def worst(self) -> list[Candidate]:
        """What was found so far, the largest excess first, inputs within the range before all others."""
        return sorted(self.found, key=lambda c: (not c.probe.inside, -c.excess))

    def look(self, probes: Sequence[Probe]) -> Scores | None:
        """Run some probes, keep what they show."""
        if not probes:
            return None
        scores = self.run({n: np.stack([p.feeds[n] for p in probes]) for n in probes[0].feeds})
        self.tried += len(probes)
        for i, probe in enumerate(probes):
            if probe.inside:
                ranks = float(scores.excess[i]), float(scores.odd[i, 0]), float(scores.odd[i, 1])
                self._pool.append((ranks, probe.feeds))
        self.found += [c for c in candidates(probes, scores) if c.excess > CLEARLY]
        return scores

    def kin(self, candidate: Candidate, count: int) -> list[Candidate]:
        """Inputs close to one that was found, which show it as well: so that a repair can be proved on others."""
        before = len(self.found)
        items = [self._blend(candidate.probe.feeds, 0.02 * 2**k) for k in range(count)]
        what = f"close to: {candidate.probe.what}"
        self.look([Probe(i, what, candidate.probe.inside and self.space.holds(i)) for i in items])
        made, self.found = self.found[before:], self.found[:before]
        return made

    @property
    def _done(self) -> bool:
        return sum(c.probe.inside for c in self.found) >= _ENOUGH

    def _between(self, budget: Budget) -> None:
        """Halve the way between samples of different labels; what lies closest to the boundary is tried, too."""
        count = len(next(iter(self.samples.values())))
        own = self.run(self.samples).labels
        self.tried += count
        first = self.rng.integers(count, size=budget.pairs)
        second = np.array([self._other(i, own, count) for i in first])
        low, high = np.zeros(budget.pairs), np.ones(budget.pairs)
        order = {n: self.rng.random(v.shape[1:]) for n, v in self.samples.items()}
        for _ in range(budget.steps):
            middle = (low + high) / 2
            items = [self._mix(i, j, t, order) for i, j, t in zip(first, second, middle, strict=True)]
            what = "between two samples" + (", near the boundary of their labels" if own is not None else "")
            scores = self.look([Probe(i, what, True) for i in items])
            same = self.rng.random(budget.pairs) < 0.5
            if own is not None and scores is not None and scores.labels is not None:
                same = scores.labels[:, 0] == own[first, 0]
            low, high = np.where(same, middle, low), np.where(same, high, middle)
            if self._done:
                return

    def _other(self, i: int, labels: Array | None, count: int) -> int:
        others = np.arange(count) if labels is None else np.flatnonzero(labels[:, 0] != labels[i, 0])
        return int(self.rng.choice(others if len(others) else np.arange(count)))

    def _mix(self, i: int, j: int, share: float, order: Feeds) -> dict[str, Array]:
        """A sample on its way to another: floats linearly, integers element by element."""
        made = {}
        for name, value in self.samples.items():
            a, b = value[i], value[j]
            if name in self.space.steering:
                made[name] = a
            elif value.dtype.kind == "f":
                made[name] = ((1 - share) * a + share * b).astype(value.dtype)
            else:
                made[name] = np.where(order[name] < share, b, a)
        return made

    def _blend(self, item: Feeds, share: float) -> dict[str, Array]:
        """An input moved a little towards a sample."""
        count = len(next(iter(self.samples.values())))
        j = int(self.rng.integers(count))
        made = {}
        for name, value in item.items():
            other = self.samples[name][j]
            if name in self.space.steering or other.shape != value.shape:
                made[name] = value
            elif value.dtype.kind == "f":
                made[name] = ((1 - share) * value + share * other).astype(value.dtype)
            else:
                made[name] = np.where(self.rng.random(value.shape) < share, other, value)
        return made

    def _children(self, count: int) -> list[dict[str, Array]]:
        """Changed copies of the best so far: some for what they show, some for being unlike the samples."""
        ranks = [sorted(self._pool, key=lambda p: -p[0][by])[:_PARENTS] for by in range(3)]
        self._pool = [p for ranked in ranks for p in ranked]
        parents = [feeds for _, feeds in self._pool] or [{n: v[0] for n, v in self.samples.items()}]
        return [self._mutant(parents[int(self.rng.integers(len(parents)))]) for _ in range(count)]

    def _mutant(self, parent: Feeds) -> dict[str, Array]:
        made = dict(parent)
        for name in self.space.free:
            changed = self._changed(np.asarray(made[name], np.float64), name)
            made[name] = self.space.clipped(name, changed, parent[name].dtype)
        return made

    def _changed(self, value: Array, name: str) -> Array:
        low, high = self.space.low[name], self.space.high[name]
        middle, way = (low + high) / 2, int(self.rng.integers(5))
        if way == 0:
            return middle + (value - middle) * self.rng.uniform(1.2, 3.0)
        if way == 1:
            return value * self.rng.uniform(0.5, 2.5)
        block = self._block(value.shape)
        if way == 2:
            other = self.samples[name]
            drawn = other[int(self.rng.integers(len(other)))]
            value[block] = drawn[block] if drawn.shape == value.shape else value[block]
        elif way == 3:
            value[block] = (low, middle, high)[int(self.rng.integers(3))]
        else:
            value[block] += self.rng.normal(size=value[block].shape) * (high - low) / 4
        return value

    def _block(self, shape: Sequence[int]) -> tuple[slice, ...]:
        starts = [int(self.rng.integers(max(1, n))) for n in shape]
        lengths = [1 + int(self.rng.integers(max(1, n - s))) for s, n in zip(starts, shape, strict=True)]
        return tuple(slice(s, s + n) for s, n in zip(starts, lengths, strict=True))


def candidates(probes: Sequence[Probe], scores: Scores) -> list[Candidate]:
    """The probes with what a run of both models says of them."""
    labels = [None if scores.labels is None else (int(s), int(t)) for s, t in
              (scores.labels if scores.labels is not None else [(0, 0)] * len(probes))]  # fmt: skip
    return [Candidate(p, float(scores.excess[i]), float(scores.largest[i]), labels[i]) for i, p in enumerate(probes)]


def scores(ours: Outputs, theirs: Outputs, allowed: Mapping[str, Allowance], head: str = "") -> Scores:
    """Compare answers (N, …) by output name, both in the source's layout. head: the output whose classes are labels."""
    count = len(next(iter(ours.values())))
    excess, odd, largest = np.zeros(count), np.zeros((count, 2)), np.zeros(count)
    for name, value in ours.items():
        here, most = _excess(value, theirs[name], allowed[name])
        excess, largest = np.maximum(excess, here), np.maximum(largest, most)
        signed = np.nan_to_num(np.asarray(value, np.float64).reshape(count, -1), posinf=0.0, neginf=0.0)
        ends = np.stack([signed.max(1, initial=0.0), -signed.min(1, initial=0.0)], 1)
        odd = np.maximum(odd, ends / max(allowed[name].scale, 1e-30))
    labels = None
    if head and ours[head].shape == theirs[head].shape:
        labels = np.stack([v[head].reshape(count, -1).argmax(1) for v in (ours, theirs)], 1)
    return Scores(excess, odd, largest, labels)


def _rows(value: Array) -> Array:
    numbers = np.abs(np.asarray(value, np.float64)).reshape(len(value), -1)
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _excess(source: Array, target: Array, allowed: Allowance) -> tuple[Array, Array]:
    """(excess, largest difference) of each answer. Where the source itself is not finite there is nothing to show."""
    if source.shape != target.shape:
        return np.full(len(source), np.inf), np.full(len(source), np.inf)
    s, t = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (source, target))
    sound, broken = np.isfinite(s).all(1), ~np.isfinite(t).all(1)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(t - s)
    difference = np.where(np.isfinite(difference), difference, 0.0)
    largest, scale = difference.max(1, initial=0.0), _rows(source).max(1, initial=0.0)
    grown = np.maximum(1.0, scale / max(allowed.scale, 1e-30)) if allowed.scale else np.ones(len(s))
    excess = largest / np.maximum(allowed.absolute * grown, 1e-30)
    if allowed.relative:
        norm = np.sqrt((_rows(source) ** 2).sum(1))
        share = np.sqrt((difference**2).sum(1)) / np.maximum(norm, 1e-30)
        excess = np.minimum(excess, share / allowed.relative)
    return np.where(sound, np.where(broken, np.inf, excess), 0.0), np.where(broken, np.inf, largest)
