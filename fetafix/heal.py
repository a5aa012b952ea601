"""Diagnose a guilty site and find the smallest edit that heals it, by trial on the site alone.

Every fault type looks at the site; the edits it proposes are tried in ONNX Runtime in milliseconds. Where no single
proposal heals, the best ones are combined (faults that share a segment), a few steps deep. All loops are bounded, and
so are the nodes that trials compute: a guilty region of a hundred nodes gets fewer trials than one of five.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fetafix import edits as _edits
from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Site, Suspicion
from fetafix.graph.segment import Segment

UNEXPLAINED = "cg-unexplained"
_PROPOSALS = 12
_DEPTH = 3
_BEAM = 3
_COST_STEP = 1.5
_WORK, _FEWEST = 3000, 32  # nodes computed by the trials of one search; trials of single faults in any case


@dataclass(frozen=True, eq=False, slots=True)
class Remedy:
    """Edits tried on a site. steps: one suspicion with its edits per fault; before, after: relative L2 error."""

    steps: tuple[tuple[Suspicion, tuple[Edit, ...]], ...]
    before: float
    after: float
    cost: float
    healed: bool

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits, in order."""
        return tuple(e for _, group in self.steps for e in group)

    @property
    def code(self) -> str:
        """The fault type that is named first: that of the first step."""
        return self.steps[0][0].code

    @property
    def confidence(self) -> float:
        """The least certain step counts."""
        return min(s.confidence for s, _ in self.steps)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a site: suspicions (most certain first), the chosen remedy, and what else was tried."""

    site: Site
    suspicions: tuple[Suspicion, ...]
    remedy: Remedy | None
    tried: tuple[Remedy, ...]


def suspicions(site: Site, catalogue: Iterable[FaultType]) -> list[tuple[FaultType, Suspicion]]:
    """What all fault types say about a site, most certain first. A fault type that cannot judge a site says nothing."""
    scope = "segment" if isinstance(site, Segment) else "interface"
    found: list[tuple[FaultType, Suspicion]] = []
    for fault in catalogue:
        if fault.scope in (scope, "both"):
            found.extend((fault, s) for s in islice(fault.detect(site), _PROPOSALS))
    return sorted(found, key=lambda pair: -pair[1].confidence)


def diagnose(site: Site, catalogue: Sequence[FaultType]) -> Diagnosis:
    """Look at a site with every fault type and heal it with the smallest edit that does."""
    claims = suspicions(site, catalogue)
    specific = [(f, s) for f, s in claims if f.code != UNEXPLAINED]
    tried = _singles(site, specific)
    healed = [r for r in tried if r.healed]
    if not healed and isinstance(site, Segment):
        combined = _combine(site, catalogue, tried)
        tried += combined
        healed = [r for r in combined if r.healed]
    if not healed:
        last = _singles(site, [(f, s) for f, s in claims if f.code == UNEXPLAINED])
        tried += last
        healed = [r for r in last if r.healed]
    remedy = min(healed, key=_preference, default=None) or _partial(tried)
    return Diagnosis(site, tuple(s for _, s in claims), remedy, tuple(tried))


def _preference(remedy: Remedy) -> tuple[float, ...]:
    """What the graphs prove, then the smallest edit; among edits of about one size the most certain fault type."""
    unexplained = any(s.code == UNEXPLAINED for s, _ in remedy.steps)
    proved = any(s.certain for s, _ in remedy.steps)
    return (float(unexplained), -float(proved), round(remedy.cost / _COST_STEP), -remedy.confidence, remedy.cost)


def _partial(tried: Sequence[Remedy]) -> Remedy | None:
    """Where nothing heals: what takes away at least half of the error."""
    best = min(tried, key=lambda r: r.after, default=None)
    return best if best is not None and best.after <= 0.5 * best.before else None


def _singles(site: Site, claims: Sequence[tuple[FaultType, Suspicion]]) -> list[Remedy]:
    trials = (
        (suspicion, tuple(group))
        for fault, suspicion in claims
        for group in islice(_proposals(fault, site, suspicion), _PROPOSALS)
    )
    most = max(_FEWEST, _affordable(site)) if isinstance(site, Segment) else None
    made = (_try(site, (), suspicion, group) for suspicion, group in islice(trials, most))
    return [remedy for remedy in made if remedy is not None]


def _affordable(site: Site) -> int:
    """How many trials a search on a site can afford."""
    return _WORK // max(len(site.target.nodes), 1)


def _proposals(fault: FaultType, site: Site, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    try:
        yield from fault.propose(site, suspicion)
    except FetafixError:  # a proposal that cannot be made for this site is no proposal
        return


def _try(
    site: Site, done: tuple[tuple[Suspicion, tuple[Edit, ...]], ...], suspicion: Suspicion, group: tuple[Edit, ...]
) -> Remedy | None:
    if not group:
        return None
    graph = site.full if isinstance(site, Segment) else site.target
    steps = (*done, (suspicion, group))
    flat = [e for _, g in steps for e in g]
    try:
        cost = _edits.cost(graph, flat)
    except FetafixError:
        return None
    if isinstance(site, Segment):
        after = site.after(flat)
        return Remedy(steps, site.error, after.error, cost, after.healed(after.error))
    error = _interface_trial(site, flat)
    return Remedy(steps, site.error, error, cost, site.healed(error))


def _interface_trial(site: Interface, group: Sequence[Edit]) -> float:
    """The error after edits of the graph and of the preprocessing; inf where the latter has nothing to act on."""
    changes = {k: v for e in group if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}
    if not changes:
        return site.trial(group)
    if site.refeed is None:
        return float("inf")
    try:
        return site.trial(group, site.refeed(changes))
    except FetafixError:
        return float("inf")


def _combine(site: Segment, catalogue: Sequence[FaultType], singles: Sequence[Remedy]) -> list[Remedy]:
    """Faults that share a segment: take a step that helps, look again, take the next."""
    tried: list[Remedy] = []
    left = _affordable(site)
    if left < _PROPOSALS:  # where hundreds of nodes agree nowhere, two or three edits are not all that is wrong
        return tried
    beam = _best(singles)
    for _ in range(_DEPTH - 1):
        grown: list[Remedy] = []
        for remedy, suspicion, group in islice(_further(site, beam, catalogue), left):
            left -= 1
            further = _try(site, remedy.steps, suspicion, group)
            if further is not None:
                grown.append(further)
        tried += grown
        if not grown or any(r.healed for r in grown):
            break
        beam = _best(grown)
    return tried


def _further(
    site: Segment, beam: Sequence[Remedy], catalogue: Sequence[FaultType]
) -> Iterator[tuple[Remedy, Suspicion, tuple[Edit, ...]]]:
    """What could follow on the remedies so far."""
    for remedy in beam:
        changed = site.after(remedy.edits)
        for fault, suspicion in suspicions(changed, catalogue)[:_PROPOSALS]:
            if fault.code != UNEXPLAINED:
                for group in islice(_proposals(fault, changed, suspicion), 4):
                    yield remedy, suspicion, tuple(group)


def _best(remedies: Sequence[Remedy]) -> list[Remedy]:
    """The steps to go on from: those that help most, and the most certain ones even if they do not help alone."""
    useful = [r for r in remedies if r.after < float("inf")]
    by_error = sorted(useful, key=lambda r: r.after)[:_BEAM]
    certain = sorted((r for r in useful if r.confidence >= 0.9 and r not in by_error), key=lambda r: r.cost)[:_BEAM]
    return [*by_error, *certain]
