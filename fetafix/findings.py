"""From diagnosed sites to the findings and repairs of the report, in both models' own names and in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.edit_data import ArrayStore
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.heal import UNEXPLAINED, Remedy
from fetafix.ir import Graph
from fetafix.plan import Entry, entry
from fetafix.report import Finding, Repair
from fetafix.treat import Step

_CATEGORIES = frozenset({"PP", "ID", "TSS", "WB", "LH", "CG", "QP", "DT", "OP", "VS", "ST"})


@dataclass(frozen=True, slots=True)
class Names:
    """How layers are called in a model's own words: node key → native name."""

    graph: Graph
    native: Mapping[str, str]

    def layer(self, key: str | None) -> str | None:
        """The layer's name; None for None."""
        if key is None:
            return None
        if key in self.native:
            return self.native[key]
        node = self.graph.producers.get(key)
        return node.label if node is not None else key


def finding(step: Step, suspicion: Suspicion, fault: FaultType, source: Names, target: Names) -> Finding:
    """The finding that a suspicion turned out to be."""
    site = step.diagnosis.site
    healed = step.remedy is not None and step.remedy.healed and suspicion.code != UNEXPLAINED
    sure = 1 - (1 - suspicion.confidence) * (0.2 if healed else 1.0)
    key, twin = suspicion.target, suspicion.source
    if isinstance(site, Segment):
        key = key or site.goal.target
        twin = twin or counterpart(site, key)
    evidence = {k: plain(v) for k, v in suspicion.evidence.items()}
    return Finding(
        code=suspicion.code,
        category=fault.category,
        title=fault.name,
        source_layer=source.layer(twin),
        target_layer=target.layer(key),
        evidence={**evidence, **_trial(step)},
        local_error=_finite(site.error),
        confidence=round(float(sure), 4),
        explanation=suspicion.explanation or fault.name,
    )


def _trial(step: Step) -> dict[str, Any]:
    """What trying the remedy on the segment showed."""
    if step.remedy is None:
        return {}
    return {"error_after_trial": _finite(step.remedy.after), "edits_tried": len(step.diagnosis.tried)}


def counterpart(segment: Segment, key: str) -> str | None:
    """The source node that corresponds to a target node of a segment: its twin, else what makes the segment's goal."""
    if key == segment.goal.target and segment.goal.source in segment.source.producers:
        return segment.goal.source
    if key in segment.pairs:
        return segment.pairs[key]
    node = segment.target.producers.get(key)
    same = [n for n in segment.source.nodes if node is not None and n.op == node.op]
    return same[-1].key if same else (segment.goal.source if segment.source.nodes else None)


def unexplained(step: Step, source: Names, target: Names) -> Finding:
    """A guilty segment that no fault type recognises."""
    site = step.diagnosis.site
    key = site.goal.target if isinstance(site, Segment) else None
    twin = site.goal.source if isinstance(site, Segment) else None
    ops = {
        "target_operators": [n.op for n in site.target.nodes][:12],
        "source_operators": [n.op for n in site.source.nodes][:12],
    }
    failure = {"failure": site.failure} if isinstance(site, Segment) and site.failure else {}
    return Finding(
        code=UNEXPLAINED,
        category="CG",
        title="Unexplained difference",
        source_layer=source.layer(twin),
        target_layer=target.layer(key),
        evidence={**(ops if isinstance(site, Segment) else {}), **failure},
        local_error=_finite(site.error),
        confidence=0.05,
        explanation="Fed with the source's activations this part of the target answers differently, and no fault type "
        "of the catalogue explains how.",
    )


def findings(steps: Sequence[Step], catalogue: Mapping[str, FaultType], source: Names, target: Names) -> list[Finding]:
    """All findings, in the order of the target's layers; each fault once."""
    return [f for f, _, _ in explained(steps, catalogue, source, target)]


def explained(
    steps: Sequence[Step], catalogue: Mapping[str, FaultType], source: Names, target: Names
) -> list[tuple[Finding, Step, Suspicion | None]]:
    """All findings, each with the step that it was found in, and with the suspicion that turned out to be right."""
    found: list[tuple[Finding, Step, Suspicion | None]] = []
    for step in steps:
        chosen = [s for s, _ in step.remedy.steps] if step.remedy else list(step.diagnosis.suspicions[:1])
        if not chosen:
            found.append((unexplained(step, source, target), step, None))
        found += [(finding(step, s, catalogue[s.code], source, target), step, s) for s in chosen]
    unique: dict[tuple[str, str | None], tuple[Finding, Step, Suspicion | None]] = {}
    for item in found:
        unique.setdefault((item[0].code, item[0].target_layer), item)
    return list(unique.values())


def proposals(
    steps: Sequence[Step], catalogue: Mapping[str, FaultType], source: Names, target: Names, store: ArrayStore
) -> list[tuple[Entry, Step]]:
    """The plan's entries for all steps that have edits, with the step each came from."""
    made = []
    for step in steps:
        remedy = step.remedy
        if remedy is None or not step.edits:
            continue
        first = remedy.steps[0][0]
        item = finding(step, first, catalogue[first.code], source, target)
        made.append(
            (
                entry(
                    "+".join(dict.fromkeys(s.code for s, _ in remedy.steps)),
                    step.edits,
                    store,
                    target_layer=item.target_layer,
                    source_layer=item.source_layer,
                    before=_finite(remedy.before),
                    after=_finite(remedy.after),
                    why=_why(remedy),
                    safety="review" if any(catalogue[s.code].safety == "review" for s, _ in remedy.steps) else "safe",
                ),
                step,
            )
        )
    return made


def _why(remedy: Remedy) -> str:
    if remedy.healed:
        return "fed with the source's activations the segment agrees again, within its own rounding noise"
    return f"takes the segment's error from {remedy.before:.2g} to {remedy.after:.2g}"


def rejected(steps: Sequence[Step], target: Names, most: int = 5) -> list[Repair]:
    """The best candidates that were tried on the segments and not kept, with what they did."""
    made = []
    for step in steps:
        others = [r for r in step.diagnosis.tried if r is not step.remedy]
        for remedy in sorted(others, key=lambda r: (r.after, r.cost))[:most]:
            first = remedy.steps[0][0]
            why = "heals too, but changes more" if remedy.healed else "does not heal the segment"
            made.append(
                Repair(
                    code=remedy.code,
                    target_layer=target.layer(first.target),
                    edits=[{"kind": e.kind, "description": e.describe()} for e in remedy.edits],
                    status="rejected",
                    before=_finite(remedy.before),
                    after=_finite(remedy.after),
                    why=why,
                )
            )
    return made


def plain(value: Any) -> Any:
    """Evidence as plain JSON data: numpy scalars and small arrays become numbers and lists, non-finite numbers text."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist()) if value.size <= 16 else f"{value.dtype}{list(value.shape)}"
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _finite(value: float) -> float | None:
    """JSON has no infinity: a segment that cannot run at all has no error figure."""
    return float(value) if np.isfinite(value) else None
