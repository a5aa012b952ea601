"""Which suspicion is tried first: by the odds of its fault type here, and by what the models themselves show.

The odds of a suspicion are those of its fault type between these formats at this operator (`fetafix.odds`), times the
odds that its own evidence gives it: p/(1 − p) · c/(1 − c), c its confidence. Without any counts that is the order of
confidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fetafix.errors import FetafixError
from fetafix.faults.base import Site, Suspicion
from fetafix.graph.segment import Segment
from fetafix.heal import UNEXPLAINED
from fetafix.journal import Journal
from fetafix.odds import EVENT, Count, Odds, add, known
from fetafix.repair import Group
from fetafix.session import Session
from fetafix.treat import Step

INTERFACE = "interface"
_SURE = 1e-6


@dataclass(frozen=True)
class Ranking:
    """Odds between two formats; calling it gives those of a suspicion."""

    odds: Odds
    formats: tuple[str, str]

    def __call__(self, site: Site, suspicion: Suspicion) -> float:
        """How likely the suspicion is the fault, as odds."""
        p = self.odds.probability(suspicion.code, evidence(site, suspicion), self.formats)
        c = min(max(suspicion.confidence, _SURE), 1 - _SURE)
        return p / (1 - p) * c / (1 - c)

    def counts(self, steps: Iterable[Step]) -> list[Count]:
        """What proved steps teach: at each of their sites, what was suspected, and what it was."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for step in steps:
            site, remedy = step.diagnosis.site, step.remedy
            was = {s.code for s, _ in remedy.steps} if remedy is not None else set()
            said = {(s.code, evidence(site, s)) for s in step.diagnosis.suspicions}
            said |= {(s.code, evidence(site, s)) for s, _ in (remedy.steps if remedy is not None else ())}
            said = {(code, where) for code, where in said if code != UNEXPLAINED or code in was}
            for code, where in said:
                suspected, kept = found.get((code, where), (0, 0))
                found[code, where] = (suspected + 1, kept + (code in was))
        first, second = self.formats
        return [
            Count(code=code, source=first, target=second, evidence=where, suspected=n, kept=k)
            for (code, where), (n, k) in sorted(found.items())
        ]


def evidence(site: Site, suspicion: Suspicion) -> str:
    """What a suspicion is about: the operator that it names, else the one that makes the site's goal."""
    if not isinstance(site, Segment):
        return INTERFACE
    node = site.full.producers.get(suspicion.target or "") or site.target.producers.get(site.goal.target)
    return node.op if node is not None else INTERFACE


def between(session: Session) -> Ranking:
    """What is known of the formats of a session's models."""
    return Ranking(known(), (session.source_info.format, session.target_info.format))


def note(journal: Journal, ranking: Ranking) -> None:
    """Write down by which statistics was ranked."""
    odds = ranking.odds
    journal.write("ranked", by="odds", formats=ranking.formats, runs=odds.runs, statistics=odds.digest,
                  origins=[o.origin for o in odds.origins], problem=odds.problem)  # fmt: skip


def teach(journal: Journal, ranking: Ranking, steps: Iterable[Step], kept: Iterable[Group]) -> None:
    """Count what a proved repair settled, in its journal and in the user's statistics; only runs with a journal count.

    Statistics that cannot be written are no reason to fail; the journal says so.
    """
    if journal.path is None:
        return
    proved = {id(g.edits) for g in kept}
    counts = ranking.counts(s for s in steps if s.edits and id(s.edits) in proved)
    if not counts:
        return
    place, problem = None, ""
    try:
        place = add(counts)
    except FetafixError as error:
        problem = str(error)
    journal.write(EVENT, counts=counts, added_to=str(place) if place else None, problem=problem)
