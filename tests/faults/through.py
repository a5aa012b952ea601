"""A fault through the whole of localization: both models walked, guilty segments diagnosed, healed, looked at again.

`treated` is what `fetafix repair` does to lifted graphs; `check` holds what is to be held of every seeded fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fetafix.edits import Edit, apply
from fetafix.faults import catalogue, get
from fetafix.graph.align import Aligner, InputTwin
from fetafix.graph.segment import Layout, relative_error
from fetafix.ir import Array, Graph
from fetafix.treat import Treatment, treat
from tests.faults.models import renamed
from tests.faults.support import EVALUATOR, feeds_for, with_shapes

FAULTS = list(catalogue().values())
EXACT = 2e-6


@dataclass(frozen=True, eq=False)
class Case:
    """A healthy source, and how its target form is made of it. perm: how the target's inputs lie.

    feeds: the source's inputs by seed.
    """

    source: Graph
    target: Graph
    perm: tuple[int, ...] | None = None
    feeds: Callable[[Graph, int], Mapping[str, Array]] = feeds_for

    @classmethod
    def of(
        cls, source: Graph, form: Callable[[Graph], Graph] = renamed, perm: tuple[int, ...] | None = None,
        feeds: Callable[[Graph, int], Mapping[str, Array]] = feeds_for,
    ) -> Case:
        """A case with the target in another form (other names by default)."""
        target = form(source)
        return cls(source, with_shapes(target, laid(target, feeds(source, 0), source, perm)), perm, feeds)


def laid(target: Graph, feeds: Mapping[str, Array], source: Graph, perm: tuple[int, ...] | None) -> dict[str, Array]:
    """The source's feeds for the target's inputs."""
    names = zip(target.input_names, source.input_names, strict=True)
    return {t: np.ascontiguousarray(feeds[s].transpose(perm)) if perm else feeds[s] for t, s in names}


def treated(case: Case, target: Graph, seed: int = 1) -> Treatment:
    """A version of a case's target, aligned with the source on random samples and healed."""
    with Aligner(case.source, case.feeds(case.source, seed), EVALUATOR) as aligner:
        outputs = dict(zip(target.output_names, case.source.output_names, strict=True))
        twins = tuple(InputTwin(t, s, Layout(case.perm))
                      for t, s in zip(target.input_names, case.source.input_names, strict=True))
        return treat(lambda g: aligner.align(g, twins, outputs), target, FAULTS)


def error(case: Case, target: Graph, seed: int = 77) -> float:
    """Largest relative error of an output on other samples than those treated with; inf for another shape."""
    feeds = case.feeds(case.source, seed)
    expected = EVALUATOR.run(case.source, feeds, case.source.output_names)
    found = EVALUATOR.run(target, laid(target, feeds, case.source, case.perm), target.output_names)
    return max(relative_error(f, e) for f, e in zip(found, expected, strict=True))


def codes(treatment: Treatment) -> list[str]:
    """The fault types that were healed, in order."""
    return [s.code for step in treatment.steps if step.remedy for s, _ in step.remedy.steps]


def places(treatment: Treatment) -> list[str | None]:
    """The target nodes that they were found at."""
    return [s.target for step in treatment.steps if step.remedy for s, _ in step.remedy.steps]


def injected(case: Case, code: str, seed: int) -> tuple[Graph, Sequence[Edit]]:
    """The case's target with a seeded fault, and the edits that made it."""
    edits = get(code).inject(case.target, np.random.default_rng(seed))
    assert edits, f"no place for {code}"
    return apply(case.target, edits), edits


def check(case: Case, code: str, seed: int, exact: float = EXACT, times: int = 1) -> Treatment:
    """Inject, heal, and assert: named first, alone, at the right node; exact on other samples; silent afterwards.

    times: how often it may be named at most, where it lies in several nodes.
    """
    broken, edits = injected(case, code, seed)
    return healed(case, broken, code, named_by(edits), exact, times)


def named_by(edits: Sequence[Edit]) -> set[str]:
    """The nodes that injected edits name or make, and those that read what they make."""
    made = {o for e in edits if hasattr(e, "node") and not isinstance(e.node, str) for o in e.node.outputs}
    return {e.node for e in edits if isinstance(getattr(e, "node", None), str)} | made


def healed(
    case: Case, broken: Graph, code: str, at: set[str], exact: float = EXACT, times: int = 1
) -> Treatment:
    """The same for a fault that was made by hand."""
    broken = replace(broken, shapes={})
    assert error(case, broken) > 1e-4, "the injection is a NO-OP"
    treatment = treated(case, broken)
    first = treatment.steps[0]
    said = [(s.code, s.target, round(s.confidence, 3), s.explanation) for s in first.diagnosis.suspicions[:4]]
    assert set(codes(treatment)) == {code} and len(codes(treatment)) <= times, (codes(treatment), said)
    assert first.diagnosis.suspicions[0].code == code, said
    assert not at or (first.remedy is not None and first.remedy.steps[0][0].target in at), (places(treatment), at)
    assert treatment.remaining == ()
    assert error(case, treatment.target) <= exact
    again = treated(case, treatment.target, seed=5)
    assert again.steps == ()
    assert again.target is treatment.target
    return treatment


def silent(case: Case, target: Graph | None = None) -> None:
    """No finding and no edit on a pair that agrees."""
    target = case.target if target is None else target
    assert error(case, target) <= 1e-5, "the pair does not agree"
    treatment = treated(case, target)
    assert treatment.steps == ()
    assert treatment.target is target
