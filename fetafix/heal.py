"""Diagnose a guilty site and find the smallest edit that heals it, by trial on the site alone.

Every fault type looks at the site; the edits it proposes are tried in ONNX Runtime in milliseconds. Where no single
proposal heals, the best ones are combined (faults that share a segment), a few steps deep. All loops are bounded, and
so are the nodes that trials compute: a guilty region of a hundred nodes gets fewer trials than one of five.

Which remedy is preferred is known before it is tried (`_preference`); what is tried first is up to the caller (`Rank`).
Once a remedy heals, only those are still tried that would be preferred to it. So every order finds the same remedy, and
records the same trials: those that are preferred to the one that is taken. Only the time differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fetafix import edits as _edits
from fetafix.edits import Edit, SetPreprocessing
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Site, Suspicion
from fetafix.graph.segment import Segment
from fetafix.together import CERTAIN, unions

UNEXPLAINED = "cg-unexplained"
_PROPOSALS = 12
_DEPTH = 3
_BEAM = 3
_COST_STEP = 1.5
_ALIKE = 0.5  # relative L2 error from which on a value has nothing of the wanted one
Rank = Callable[[Site, Suspicion], float]
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
class _Draft:
    """Edits to be tried. key: the smallest is preferred; no two drafts of a search have the same."""

    steps: tuple[tuple[Suspicion, tuple[Edit, ...]], ...]
    cost: float
    key: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a site: suspicions (most certain first), the chosen remedy, and what else was tried.

    Where a remedy heals, `tried` has those that would be preferred to it besides; `others` tries the rest.
    """

    site: Site
    suspicions: tuple[Suspicion, ...]
    remedy: Remedy | None
    tried: tuple[Remedy, ...]
    _rest: tuple[_Draft, ...] = ()

    def others(self) -> Iterator[Remedy]:
        """Other remedies that heal, smallest first, each tried when it is asked for."""
        done = [r for r in self.tried if r.healed and r is not self.remedy]
        yield from sorted(done, key=lambda r: r.cost)
        made = (_made(self.site, d) for d in sorted(self._rest, key=lambda d: (d.cost, d.key)))
        yield from (r for r in made if r.healed)


def suspicions(site: Site, catalogue: Iterable[FaultType]) -> list[tuple[FaultType, Suspicion]]:
    """What all fault types say about a site, most certain first. A fault type that cannot judge a site says nothing."""
    scope = "segment" if isinstance(site, Segment) else "interface"
    found: list[tuple[FaultType, Suspicion]] = []
    for fault in catalogue:
        if fault.scope in (scope, "both"):
            found.extend((fault, s) for s in islice(fault.detect(site), _PROPOSALS))
    return sorted(found, key=lambda pair: -pair[1].confidence)


def diagnose(site: Site, catalogue: Sequence[FaultType], rank: Rank | None = None) -> Diagnosis:
    """Look at a site with every fault type and heal it with the smallest edit that does.

    rank: what is tried first, the largest; by confidence where it is not given. It changes no result.
    """
    claims = suspicions(site, catalogue)
    specific = [(f, s) for f, s in claims if f.code != UNEXPLAINED]
    tried, rest = _singles(site, specific, rank)
    healed = [r for r in tried if r.healed]
    if isinstance(site, Segment) and all(r.confidence < CERTAIN for r in healed):
        united = _united(site, specific)
        tried += united
        healed = _named(healed, [r for r in united if r.healed])
    if not healed and isinstance(site, Segment):
        combined = _combine(site, catalogue, tried)
        tried += combined
        healed = [r for r in combined if r.healed]
    if not healed:
        last, rest = _singles(site, [(f, s) for f, s in claims if f.code == UNEXPLAINED], rank)
        tried += last
        healed = [r for r in last if r.healed]
    remedy = min(healed, key=lambda r: _preference(r.steps, r.cost), default=None) or _partial(tried)
    return Diagnosis(site, tuple(s for _, s in claims), remedy, tuple(tried), tuple(rest))


def _preference(steps: Sequence[tuple[Suspicion, tuple[Edit, ...]]], cost: float) -> tuple[float, ...]:
    """What the graphs prove, then the smallest edit; among edits of about one size the most certain fault type."""
    unexplained = any(s.code == UNEXPLAINED for s, _ in steps)
    proved = any(s.certain for s, _ in steps)
    confidence = min(s.confidence for s, _ in steps)
    return (float(unexplained), -float(proved), round(cost / _COST_STEP), -confidence, cost)


def _partial(tried: Sequence[Remedy]) -> Remedy | None:
    """Where nothing heals: what takes away at least half of the error, and is proved or leaves something alike."""
    best = min(tried, key=lambda r: r.after, default=None)
    if best is None or best.after > 0.5 * best.before or (best.after > _ALIKE and best.confidence < CERTAIN):
        return None
    return best


def _singles(
    site: Site, claims: Sequence[tuple[FaultType, Suspicion]], rank: Rank | None
) -> tuple[list[Remedy], list[_Draft]]:
    """Remedies of single suspicions that were tried, and the drafts that are preferred to none of them that heals.

    An interface is mended by its own preference, so all of its drafts are tried.
    """
    trials = (
        (suspicion, tuple(group))
        for fault, suspicion in claims
        for group in islice(_proposals(fault, site, suspicion), _PROPOSALS)
    )
    most = max(_FEWEST, _affordable(site)) if isinstance(site, Segment) else None
    drafts = [d for i, (s, group) in enumerate(islice(trials, most)) if (d := _draft(site, ((s, group),), i))]
    order = drafts if rank is None else sorted(drafts, key=lambda d: -rank(site, d.steps[0][0]))
    made: dict[tuple[float, ...], Remedy] = {}
    best: tuple[float, ...] | None = None
    for draft in order:
        if best is None or draft.key < best:
            made[draft.key] = remedy = _made(site, draft)
            best = draft.key if remedy.healed and isinstance(site, Segment) else best
    tried = [made[d.key] for d in drafts if d.key in made and (best is None or d.key <= best)]
    return tried, [d for d in drafts if best is not None and d.key > best]


def _affordable(site: Site) -> int:
    """How many trials a search on a site can afford."""
    return _WORK // max(len(site.target.nodes), 1)


def _proposals(fault: FaultType, site: Site, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    try:
        yield from fault.propose(site, suspicion)
    except FetafixError:  # a proposal that cannot be made for this site is no proposal
        return


def _draft(site: Site, steps: tuple[tuple[Suspicion, tuple[Edit, ...]], ...], number: int) -> _Draft | None:
    """Edits that could be tried; None where there are none, or where they do not fit the graph."""
    graph = site.full if isinstance(site, Segment) else site.target
    if not steps or not steps[-1][1]:
        return None
    try:
        cost = _edits.cost(graph, [e for _, group in steps for e in group])
    except FetafixError:
        return None
    return _Draft(steps, cost, (*_preference(steps, cost), number))


def _made(site: Site, draft: _Draft) -> Remedy:
    """What comes of edits."""
    flat = [e for _, group in draft.steps for e in group]
    if isinstance(site, Segment):
        after = site.after(flat)
        return Remedy(draft.steps, site.error, after.error, draft.cost, after.healed(after.error))
    error = _interface_trial(site, flat)
    return Remedy(draft.steps, site.error, error, draft.cost, site.healed(error))


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


def _united(site: Segment, claims: Sequence[tuple[FaultType, Suspicion]]) -> list[Remedy]:
    """Proved claims about different places taken together, without those that are not needed."""
    for steps in unions(site, claims):
        draft = _draft(site, steps, 0)
        remedy = None if draft is None else _made(site, draft)
        for step in steps if remedy is not None and remedy.healed else ():
            fewer = _draft(site, tuple(s for s in remedy.steps if s is not step), 0) if remedy is not None else None
            without = None if fewer is None else _made(site, fewer)
            remedy = without if without is not None and without.healed else remedy
        if remedy is not None and len(remedy.steps) > 1 and (remedy.healed or remedy.after < site.error):
            return [remedy]
    return []


def _named(singles: list[Remedy], united: list[Remedy]) -> list[Remedy]:
    """Remedies that heal: where proved faults together cost no more than what merely copies, that says too little."""
    dear = min((r.cost for r in united), default=float("inf")) - 2 * _COST_STEP
    return [*(r for r in singles if r.cost < dear or not united), *united]


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
            further = _draft(site, (*remedy.steps, (suspicion, group)), len(grown))
            if further is not None:
                grown.append(_made(site, further))
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
