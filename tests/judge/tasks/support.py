"""Running a comparator by hand: from two arrays to what it says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fetafix.judge.tasks.base import OUTPUT, Claim, Comparator, Observed, View


def asked(comparator: Comparator, **outputs: np.ndarray) -> Claim:
    """The claim on outputs that somebody asks the comparator for; there has to be one."""
    claims = comparator.claim([View(n, v, len(outputs) == 1) for n, v in outputs.items()], True)
    assert len(claims) == 1
    return claims[0]


def claimed(comparator: Comparator, alone: bool = True, **outputs: np.ndarray) -> list[str]:
    """How sure the comparator is of each claim that it makes by itself."""
    return [c.sure for c in comparator.claim([View(n, v, alone and len(outputs) == 1) for n, v in outputs.items()],
                                             False)]


def seen(comparator: Comparator, source: np.ndarray, target: np.ndarray, tie: float = 0.0,
         claim: Claim | None = None) -> Observed:
    """What a comparator of single outputs notes."""
    claim = claim or asked(comparator, y=source)
    found = comparator.observe({OUTPUT: source}, {OUTPUT: target}, claim, comparator.limits, {OUTPUT: tie})
    assert found is not None
    return found


def figures(comparator: Comparator, source: np.ndarray, target: np.ndarray, tie: float = 0.0) -> Mapping[str, float]:
    """The report's figures."""
    return comparator.figures(seen(comparator, source, target, tie), comparator.limits)


def agree(comparator: Comparator, source: np.ndarray, target: np.ndarray, tie: float = 0.0) -> list[bool]:
    """On which samples the answers agree."""
    return comparator.agree(seen(comparator, source, target, tie), comparator.limits).tolist()
