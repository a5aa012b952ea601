"""A fault in a whole graph, through alignment, diagnosis and repair, round by round."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fetafix.faults import catalogue
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.segment import Layout
from fetafix.ir import Array, Graph
from fetafix.treat import Treatment, treat
from tests.faults.sites import run
from tests.faults.support import EVALUATOR

FAULTS = list(catalogue().values())


def treated(
    source: Graph, target: Graph, feeds: Mapping[str, Array], perms: Mapping[str, tuple[int, ...]] | None = None,
) -> Treatment:
    """Everything guilty found and healed; inputs and outputs belong together by position.

    perms: target input → how it holds the source's.
    """
    with Aligner(source, feeds, EVALUATOR) as aligner:
        pairs = zip(target.input_names, source.input_names, strict=True)
        inputs = tuple(InputTwin(t, s, Layout((perms or {}).get(t))) for t, s in pairs)
        outputs = dict(zip(target.output_names, source.output_names, strict=True))
        return treat(lambda g: aligner.align(g, inputs, outputs), target, FAULTS)


def heals(
    source: Graph, target: Graph, feeds: Mapping[str, Array], code: str, heldout: Mapping[str, Array] | None = None,
    perms: Mapping[str, tuple[int, ...]] | None = None,
) -> Treatment:
    """One fault: its code ranks first and is what is repaired; on other samples both agree; nothing is left to do."""
    treatment = treated(source, target, feeds, perms)
    assert treatment.steps, "the fault is not found"
    first = treatment.steps[0]
    named = [(s.code, round(s.confidence, 3)) for s in first.diagnosis.suspicions]
    assert first.remedy is not None and first.remedy.healed, named
    assert first.remedy.code == code, (first.remedy.code, named)
    assert named[0][0] == code, named
    assert treatment.remaining == (), treatment.reason
    given = heldout or feeds
    laid = {t: given[s].transpose(p) if (p := (perms or {}).get(t)) else given[s]
            for t, s in zip(target.input_names, source.input_names, strict=True)}
    for a, b in zip(run(source, given).values(), run(treatment.target, laid).values(), strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)
    again = treated(source, treatment.target, feeds, perms)
    assert again.steps == () and again.target is treatment.target
    return treatment
