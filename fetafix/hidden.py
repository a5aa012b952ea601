"""Faults that hide: inputs beside the samples on which source and target disagree, run in the models' own runtimes.

The samples may agree while the models do not. So targeted probes, points between samples, inputs of other sizes where
both models leave a dimension open, and batches of two and three are tried (`inputs.targeted`, `boundary`). What differs
there counts by number, against what noise explains at that very input:

    within the range of the data, or at a size or batch that both models declare    evidence, as a sample's would be
    outside that range                                                              a note
    where the source's own answer hangs on rounding (ties)                          a note; `localize` looks inside

Evidence becomes an `Annex` of the session: judged with the samples from then on, looked at inside the models, half of
it held out, so that a repair is chosen on some and proved on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fetafix import boundary, probing
from fetafix.annex import Annex, Carry, annexed
from fetafix.boundary import CLEARLY, Budget, Candidate, Feeds
from fetafix.inputs import targeted
from fetafix.inputs.signature import is_batched, item_dims
from fetafix.inputs.targeted import Probe, Space
from fetafix.ir import Array
from fetafix.judging import Judgement
from fetafix.parallel import ModelProcess
from fetafix.report import Search, Shown, Verdict
from fetafix.rivals import Rivals
from fetafix.session import Session

_FROM, _FEW, _LARGEST = 16, 4, 1 << 24  # samples to start from, at least; elements of a resized input
_SHOWN, _WORST, _PROVABLE, _KEPT = 5, 4, 4, 16
_NUMBER = 1e12  # an excess beyond it has no meaning as a number


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What a search found: the record for the report, annexes for the session, and the worst inputs to keep.

    evidence: what the verdict rests on, the worst first. worst: source feeds (k, *item), one group a shape.
    """

    record: Search
    annexes: tuple[Annex, ...] = ()
    evidence: tuple[Candidate, ...] = ()
    worst: tuple[dict[str, Array], ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Inputs of one shape that show a disagreement, beyond the range (`inside` False), or only perhaps (`sure`)."""

    found: list[Candidate]
    annex: Annex | None = None
    sure: bool = True
    inside: bool = True


def budget(level: str, command: str, samples: int) -> Budget:
    """What a level allows. A check may cost little: about one input for a dozen samples."""
    if level == "deep":
        return Budget(probes=39, pairs=8, steps=6, generations=16, children=16)
    if command == "check":
        return Budget(probes=min(8, max(4, samples // 12)))
    return Budget(probes=13, pairs=4, steps=3)


def search(
    session: Session, judgement: Judgement, level: str, command: str, target: ModelProcess | None = None
) -> Outcome:
    """Look for inputs on which the source and the target, or another process in its place, disagree.

    judgement: of the samples, which tells what noise and drift explain. A model's failure shows nothing.
    """
    why = _unsuited(session, judgement)
    carried = None if why else session.carried
    if carried is None:
        return Outcome(Search(level=level, skipped=why or "the target's inputs do not follow from the source's"))
    with session.timed("search"):
        return _Hunt(session, judgement, carried, level, command, target).outcome()


def _unsuited(session: Session, judgement: Judgement) -> str:
    """Why nothing is searched, "" where something is."""
    if judgement.ruling.verdict not in (Verdict.EQUIVALENT, Verdict.DRIFTING):
        return "the samples themselves disagree"
    if session.quantised:
        return "a quantised model answers by what it was calibrated for"
    if any(p["run_variation"] is not None for p in session.probes.values()):
        return "a model answers differently from run to run"
    return ""


class _Hunt:
    """One search."""

    def __init__(
        self, session: Session, judgement: Judgement, carried: Carry, level: str, command: str,
        target: ModelProcess | None,
    ) -> None:  # fmt: skip
        self.session, self.carried, self.brief = session, carried, command == "check" and level != "deep"
        self.level = level
        self.rivals = Rivals(session, judgement, carried, target or session.target)
        own = session.samplings.source
        search = session.samplings.positions("search")
        start = search if len(search) >= _FEW else session.samplings.positions("all")
        taken = own.take(start[:_FROM]).arrays
        self.samples = {n: np.asarray(v) for n, v in taken.items()}
        self.space = Space.of(self.samples if own.files else own.arrays)
        self.budget = budget(level, command, len(own))
        seen = self.brief and len(own) >= probing.COUNT  # batches of that many were run for the noise
        self.sizes = [] if seen else [3] if self.brief else [3, 2]  # of batches

    def outcome(self) -> Outcome:
        """Search by values, by size, by batch."""
        groups = [*self._values(), *self._sizes(), *self._batches()]
        sure = [c for g in groups if g.sure and g.inside for c in g.found]
        beyond = [c for g in groups if g.sure and not g.inside for c in g.found]
        unsure = sum(len(g.found) for g in groups if not g.sure)
        sure.sort(key=lambda c: -c.excess)
        record = Search(
            level=self.level, tried=self.rivals.tried, found=len(sure), outside=len(beyond), unsure=unsure,
            turned=self.rivals.turned, shown=_worst(sure or beyond),
        )  # fmt: skip
        shown = [g for g in groups if g.sure and g.inside == bool(sure)]
        kept = tuple(_stacked([c.probe for c in g.found[:_WORST]]) for g in shown)
        return Outcome(record, tuple(g.annex for g in groups if g.annex is not None), tuple(sure), kept)

    def _values(self) -> list[Group]:
        """Inputs of the samples' shape."""
        rng = np.random.default_rng([self.session.options.seed, 17])
        hunt = boundary.Search(self.rivals.run, self.samples, self.space, rng)
        hunt.all(targeted.probes(self.samples, self.space, self.budget.probes), self.budget)
        sure, unsure = self.rivals.confirmed(hunt.worst()[:_KEPT])
        inside, beyond = (_where(self._alone(sure), which) for which in (True, False))
        if inside and len(inside) < _PROVABLE and not self.brief:
            inside += _where(self.rivals.confirmed(hunt.kin(inside[0], _PROVABLE))[0], True)
        doubtful = _where(unsure, True)
        made = [Group(inside, self._annex(_probes(inside), "found input"))] if inside else []
        made += [Group(beyond, inside=False)] if beyond else []
        suspect = None if inside or self.brief else self._annex(_probes(doubtful), "input with ties", sure=False)
        return [*made, Group(doubtful, suspect, sure=False)] if doubtful else made

    def _alone(self, found: Sequence[Candidate]) -> list[Candidate]:
        """Those that show a difference on their own, too; where others do not, a batch is what shows it."""
        if not found or not self.session.samplings.source.stackable:
            return list(found)
        single = self.rivals.run(_stacked(_probes(found)), 1)
        kept = [c for c, excess in zip(found, single.excess, strict=True) if excess > CLEARLY]
        if len(kept) < len(found):
            self.sizes.append(self.budget.probes)
        return kept

    def _sizes(self) -> list[Group]:
        """Inputs of other sizes, where both models leave dimensions open."""
        axes = _open_axes(self.session)
        old = [self.samples[n].shape[a + 1] for n, where in axes.items() for a in where]
        made = []
        for size in targeted.sizes(max(old)) if old else ():
            few = {n: v[: 2 if self.brief else _PROVABLE] for n, v in self.samples.items()}
            arrays = targeted.resized(few, axes, size - max(old))
            if max(v.size for v in arrays.values()) <= _LARGEST:
                grown = " × ".join(str(o + size - max(old)) for o in dict.fromkeys(old))
                probes = [Probe(p, f"size {grown}", True) for p in _items(arrays)]
                found = self._tried(probes)
                made += [Group(found, self._annex(_probes(found), "", alike=False))] if found else []
        return made

    def _batches(self) -> list[Group]:
        """Samples two and three at a time, and as many as gave something away."""
        session = self.session
        able = all(probing.takes_batches(p.info()) for p in (session.source, self.rivals.target))
        known = any(p["batch_failure"] or p["batch_dependence"] is not None for p in session.probes.values())
        if not able or known or not session.samplings.source.stackable:
            return []
        made = targeted.probes(self.samples, self.space, max(self.sizes, default=0))
        items = [*_items(self.samples), *(p.feeds for p in made if p.inside)]
        for size in self.sizes:
            wanted = size if self.brief else 2 * size
            every = [Probe(items[i % len(items)], f"in a batch of {size}", True) for i in range(wanted)]
            found = self._tried(every, size)
            if found:
                return [Group(found, self._annex(every, "", batch=size, alike=False))]
        return []

    def _tried(self, probes: Sequence[Probe], batch: int | None = None) -> list[Candidate]:
        """What some inputs show that both models declare to take."""
        if not probes:
            return []
        scores = self.rivals.run(_stacked(probes), batch)
        found = [c for c in boundary.candidates(probes, scores) if c.excess > CLEARLY]
        return self.rivals.confirmed(found)[0]

    def _annex(
        self, probes: Sequence[Probe], what: str, batch: int | None = None, alike: bool = True, sure: bool = True
    ) -> Annex | None:
        """Every second input, or batch of them, is held out."""
        if not probes:
            return None
        held = [i for i in range(len(probes)) if i // (batch or 1) % 2]
        names = [f"{what} ({p.what})".strip() for p in probes]
        own = self.session.samplings.source
        return annexed(self.carried, own, _stacked(probes), names, held, batch, alike, sure)


def _open_axes(session: Session) -> dict[str, tuple[int, ...]]:
    """Item axes whose size both models leave open, by source input."""
    theirs = {t.name: t for t in session.target_info.inputs}
    found: dict[str, tuple[int, ...]] = {}
    for b in session.bindings.inputs:
        mine, other = (next(t for t in session.source_info.inputs if t.name == b.source), theirs[b.target])
        ours, target = item_dims(mine), item_dims(other)
        if ours is None or target is None or len(ours) != len(target) or is_batched(mine) != is_batched(other):
            continue
        lead = int(is_batched(mine))
        perm = [p - lead for p in b.perm[lead:]] if b.perm is not None else range(len(ours))
        free = {p for at, p in enumerate(perm) if not isinstance(target[at], int) and not isinstance(ours[p], int)}
        if free and is_batched(mine):
            found[b.source] = tuple(sorted(free))
    return found


def _where(found: Sequence[Candidate], inside: bool) -> list[Candidate]:
    return [c for c in found if c.probe.inside is inside]


def _probes(found: Sequence[Candidate]) -> list[Probe]:
    return [c.probe for c in found]


def _items(arrays: Feeds) -> list[dict[str, Array]]:
    return [{n: v[i] for n, v in arrays.items()} for i in range(len(next(iter(arrays.values()))))]


def _stacked(probes: Sequence[Probe]) -> dict[str, Array]:
    return {n: np.stack([p.feeds[n] for p in probes]) for n in probes[0].feeds}


def _worst(found: Sequence[Candidate]) -> list[Shown]:
    """The worst of each kind."""
    first: dict[str, Candidate] = {}
    for candidate in found:
        first.setdefault(candidate.probe.what.removeprefix("close to: "), candidate)
    return [_shown(c) for c in list(first.values())[:_SHOWN]]


def _shown(candidate: Candidate) -> Shown:
    c = candidate
    numbers = [float(f"{v:.6g}") if v < _NUMBER else None for v in (c.excess, c.largest)]
    labels = c.labels if c.labels is not None and c.labels[0] != c.labels[1] else None
    return Shown(what=c.probe.what, inside=c.probe.inside, excess=numbers[0], max_abs=numbers[1], labels=labels)


