"""Where each finding lies in the canonical graphs: the layers to draw, and the row of the error chart to mark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fetafix.faults.base import FaultType, Suspicion
from fetafix.findings import counterpart, explained
from fetafix.graph.segment import Segment
from fetafix.ir import Graph
from fetafix.localize import Located
from fetafix.report import Finding
from fetafix.treat import Step
from fetafix.workbench import Workbench

Key = tuple[str, str | None]


@dataclass(frozen=True)
class Place:
    """A finding's place. target, source: node keys, None where it has no such node. goal: the tensor that is wrong.

    error: what was introduced there (relative L2), inf where it cannot run. graphs: (source's, target's) as they were
    when it was found, with shapes; the target's may have repairs of earlier rounds in it. segment: keys of the target's
    and of the source's nodes between the anchors. beside: the source has no such node, and `source` is where it would
    be.
    """

    target: str | None
    source: str | None
    goal: str | None
    error: float
    graphs: tuple[Graph, Graph]
    segment: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    beside: bool = False


def key(finding: Finding) -> Key:
    """What tells findings apart."""
    return finding.code, finding.target_layer


def places(located: Located, bench: Workbench, catalogue: Mapping[str, FaultType]) -> dict[Key, Place]:
    """By `key`, in the order of the findings; {} between unrelated networks, of which no place is to blame."""
    if located.treatment.unrelated:
        return {}
    found = explained(located.steps, catalogue, *bench.names)
    return {key(finding): _place(step, suspicion, bench) for finding, step, suspicion in found}


def _place(step: Step, suspicion: Suspicion | None, bench: Workbench) -> Place:
    site = step.diagnosis.site
    mine = suspicion.target if suspicion is not None else None
    theirs = suspicion.source if suspicion is not None else None
    if not isinstance(site, Segment):
        return Place(mine, theirs, None, site.error, (site.source, site.target))
    mine = mine or site.goal.target
    theirs = theirs or counterpart(site, mine)
    beside, theirs = theirs is None, theirs or site.goal.source
    nodes = frozenset(n.key for n in site.target.nodes), frozenset(n.key for n in site.source.nodes)
    return Place(mine, theirs, site.goal.target, site.error, (bench.source, site.full), nodes, beside)
