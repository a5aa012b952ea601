"""The fault types of segments that are tested here, and what the best of them says of a segment."""

from __future__ import annotations

import importlib
import pkgutil

import fetafix.faults
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment

FAMILIES = ("tss", "wb", "st", "lh")
TYPES: dict[str, FaultType] = {
    module.FAULT.code: module.FAULT
    for info in sorted(pkgutil.iter_modules(fetafix.faults.__path__), key=lambda i: i.name)
    if info.name.split("_")[0] in FAMILIES
    for module in [importlib.import_module(f"fetafix.faults.{info.name}")]
}


def suspicions(segment: Segment) -> list[Suspicion]:
    """All claims about a segment, the surest first."""
    found = [s for fault in TYPES.values() for s in fault.detect(segment)]
    return sorted(found, key=lambda s: -s.confidence)


def best_error(segment: Segment, suspicion: Suspicion) -> float:
    """The smallest error that a proposal for a suspicion leaves."""
    return min((segment.trial(e) for e in TYPES[suspicion.code].propose(segment, suspicion)), default=float("inf"))
