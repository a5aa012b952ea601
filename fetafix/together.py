"""Faults that share a segment, taken together: what is proved of each place of it, repaired at once.

A single edit list that copies every parameter heals two faults of one layer as well as their own repairs do; but then
neither is named. And in a region of many faults no single one helps, so that a search step by step finds no beginning.
Claims that rest on what the graphs hold, rather than on a trial, need no trial to be believed: they are united, each at
its own place, and what turns out not to be needed is left out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from fetafix.edits import Edit, InsertNode, ReplaceSegment, Rewire, SetAttribute, SetInput
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Site, Suspicion

CERTAIN = 0.9
GENERIC = frozenset({"wb-weights", "lh-attribute", "cg-unexplained"})
_MOST = 16
Steps = tuple[tuple[Suspicion, tuple[Edit, ...]], ...]


def unions(site: Site, claims: Sequence[tuple[FaultType, Suspicion]]) -> Iterator[Steps]:
    """The first repairs of all certain claims, one a place; then with those of the others that only set values."""
    certain = [(f, s) for f, s in claims if s.confidence >= CERTAIN and f.code not in GENERIC]
    rest = [c for c in claims if c not in certain and c[0].code != "cg-unexplained"]
    seen = 0
    for values_only, group in ((False, certain), (True, [*certain, *rest])) if certain else ():
        steps = _compatible(site, islice(group, _MOST), certain if values_only else group)
        if len(steps) > max(1, seen):
            seen = len(steps)
            yield steps


def _compatible(
    site: Site, claims: Iterable[tuple[FaultType, Suspicion]], trusted: Sequence[tuple[FaultType, Suspicion]]
) -> Steps:
    """One proposal a claim, the first that touches no place of those before; of claims not trusted, values alone."""
    steps: list[tuple[Suspicion, tuple[Edit, ...]]] = []
    ways: list[list[Sequence[Edit]]] = []
    for fault, suspicion in claims:
        proposed = _proposals(fault, site, suspicion)
        for group in proposed:
            usable = (fault, suspicion) in trusted or all(isinstance(e, SetAttribute | SetInput) for e in group)
            if group and usable and not any(_clash(p, q) for _, g in steps for p in _places(group) for q in _places(g)):
                if not _covered(steps, ways, group):
                    steps.append((suspicion, tuple(group)))
                    ways.append(proposed)
                break
    return tuple(steps)


def _covered(
    steps: list[tuple[Suspicion, tuple[Edit, ...]]], ways: Sequence[Sequence[Sequence[Edit]]], group: Sequence[Edit]
) -> bool:
    """Whether an earlier claim has a larger repair that does this one's too (a dilation and its pads): it is taken."""
    for i, (suspicion, own) in enumerate(steps):
        for larger in ways[i]:
            if _places(larger) == _places(own) | _places(group):
                steps[i] = suspicion, tuple(larger)
                return True
    return False


def _proposals(fault: FaultType, site: Site, suspicion: Suspicion) -> list[Sequence[Edit]]:
    try:
        return list(islice(fault.propose(site, suspicion), 3))
    except FetafixError:  # a proposal that cannot be made for this site is no proposal
        return []


def _places(edits: Iterable[Edit]) -> set[tuple[str, object]]:
    """(node, what of it) that edits change; None for the whole node."""
    return {_place(e) for e in edits}


def _place(edit: Edit) -> tuple[str, object]:
    if isinstance(edit, SetInput | Rewire):
        return edit.node, edit.slot
    if isinstance(edit, SetAttribute):
        return edit.node, edit.attribute
    if isinstance(edit, InsertNode):
        return edit.after, "behind"
    if isinstance(edit, ReplaceSegment):
        return edit.output, None
    return str(getattr(edit, "node", "")), None


def _clash(a: tuple[str, object], b: tuple[str, object]) -> bool:
    return a[0] == b[0] and (a[1] == b[1] or None in (a[1], b[1]))
