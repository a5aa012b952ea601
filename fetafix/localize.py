"""Which parts of the target introduce error, and what would mend them: interface first, then every segment.

Works on the lifted pair of a workbench. Nothing is written; what comes out are steps with edits, in the order in which
they were found, ready to be reported, planned or applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fetafix.edits import Edit, SetInputShape, SetPreprocessing, apply
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface
from fetafix.findings import findings
from fetafix.heal import Rank, Remedy, diagnose
from fetafix.report import Finding
from fetafix.treat import Progress, Step, Treatment, treat
from fetafix.workbench import Workbench

_EXPLAINS = 1e-3
_AT_ONCE = 4  # faults of the interface


@dataclass(frozen=True, slots=True)
class Located:
    """steps: interface and segments, each with diagnosis and edits. preprocess: changed fields, {} if none are."""

    steps: tuple[Step, ...]
    treatment: Treatment
    preprocess: Mapping[str, Any]

    def findings(self, bench: Workbench, catalogue: Mapping[str, FaultType]) -> list[Finding]:
        """The report's findings. Copying every layer explains nothing: unrelated weights make a single finding."""
        if not self.treatment.unrelated:
            return findings(self.steps, catalogue, *bench.names)
        return [_unrelated(self.treatment)]


def locate(
    bench: Workbench, catalogue: Mapping[str, FaultType], bake: bool = False, progress: Progress | None = None,
    rank: Rank | None = None,
) -> Located:  # fmt: skip
    """Find and heal everything in the lifted graphs. bake: mend preprocessing in the graph, not in configuration.

    rank: what is tried first (`heal.diagnose`).
    """
    faults = list(catalogue.values())
    entrance = _entrance(bench.interface, faults, bake)
    edits = [e for step in entrance for e in step.edits]
    preprocess = {k: v for e in edits if isinstance(e, SetPreprocessing) for k, v in e.changes.items()}
    target = apply(bench.target, edits) if edits else bench.target
    if preprocess:
        bench.use(bench.refeed(preprocess))
    elif any(isinstance(e, SetInputShape) for e in edits):
        bench.use(bench.interface.refed(edits))
    treatment = _undeclared(treat(bench.align, target, faults, progress, rank), bench)
    steps = (*entrance, *treatment.steps)
    return Located(steps, treatment, preprocess)


def _undeclared(treatment: Treatment, bench: Workbench) -> Treatment:
    """Without what a file says openly: weights that it stores in float16 are rounded to float16."""
    dtypes = bench.session.target_info.details.get("dtypes")
    if not isinstance(dtypes, dict) or not dtypes.get("float16"):
        return treatment
    kept = tuple(s for s in treatment.steps if not _only_halves(s.remedy))
    return replace(treatment, steps=kept)


def _only_halves(remedy: Remedy | None) -> bool:
    return remedy is not None and all(
        s.code == "wb-precision" and s.evidence.get("grid") == "fp16" for s, _ in remedy.steps)


def _entrance(site: Interface, catalogue: Sequence[FaultType], bake: bool) -> list[Step]:
    """What is wrong with the interface, one thing after the other, until both agree or nothing more is proved."""
    steps: list[Step] = []
    while len(steps) < _AT_ONCE:
        step = _interface(site, catalogue, bake)
        if step is None or not step.edits:
            break
        steps.append(step)
        if step.remedy is None or step.remedy.healed:
            break
        try:
            site = site.after(step.edits)
        except FetafixError:
            break
    return steps


def _interface(site: Interface, catalogue: Sequence[FaultType], bake: bool) -> Step | None:
    """Diagnose the interface; None where nothing is suspected there or where what is suspected mends nothing."""
    diagnosis = diagnose(site, catalogue)
    if not diagnosis.suspicions:
        return None
    tried = [r for r in diagnosis.tried if not (bake and _configures(r.edits))]
    healed = [r for r in tried if r.healed]
    remedy = min(healed, key=lambda r: (r.cost, -r.confidence), default=None) or _partial(tried)
    if remedy is None:
        return None
    return Step(replace(diagnosis, remedy=remedy, tried=tuple(tried)), remedy.edits, 0)


def _configures(edits: Sequence[Edit]) -> bool:
    return any(isinstance(e, SetPreprocessing) for e in edits)


def _partial(tried: Sequence[Remedy]) -> Remedy | None:
    """Where other faults keep the outputs apart: the smallest remedy of a mistake that the first layer proves.

    One that leaves a thousandth of the difference needs no other proof.
    """
    usable = [r for r in tried if r.after < float("inf")]
    proved = [r for r in usable if _after(r) <= _EXPLAINS or r.after <= _EXPLAINS * min(r.before, 1.0)]
    return min(proved, key=lambda r: (r.cost, -r.confidence), default=None)


def _after(remedy: Remedy) -> float:
    """What a remedy's suspicion leaves of the first layer's error, where it knows."""
    try:
        return float(getattr(remedy.steps[0][0].data, "after", float("inf")))
    except (TypeError, ValueError, FetafixError):
        return float("inf")


def _unrelated(treatment: Treatment) -> Finding:
    return Finding(
        code="unrelated-weights",
        category="WB",
        title="Unrelated weights",
        evidence={"segments": len(treatment.remaining)},
        confidence=0.9,
        explanation="Most layers of the target hold other weights than the source's, in no order that a conversion "
        "makes: the target comes from another training run, or from another checkpoint. Copying every layer would not "
        "be a repair; convert the source again, or compare with the checkpoint that the target was made from.",
    )
