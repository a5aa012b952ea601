"""What a person is told of an entry, with a report and without."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fetafix import plan as plans
from fetafix.edit_data import ArrayStore
from fetafix.edits import SetAttribute
from fetafix.report import Advice, Finding, ModelInfo, Repair, Report, Samples, Verdict
from fetafix.review.proposals import off, proposals
from tests.review.runs import plan_in


def entry(code: str, layer: str, safety: str = "safe") -> plans.Entry:
    return plans.entry(code, [SetAttribute(layer, "x", 1)], ArrayStore(), target_layer=layer, why="it heals",
                       safety=safety)  # fmt: skip


def plan(*entries: plans.Entry) -> plans.Plan:
    return plans.Plan(source=plans.File(path="a"), target=plans.File(path="b"), seed=0, entries=list(entries))


def finding(code: str, layer: str, meaning: str, confidence: float = 0.9) -> Finding:
    return Finding(code=code, category="WB", title=code, target_layer=layer, confidence=confidence,
                   advice=Advice(meaning=meaning, evidence=["seen"], remedy="mend", risk="none"))  # fmt: skip


def report(*findings: Finding, repairs: list[Repair] | None = None) -> Report:
    info = ModelInfo(path="m", format="onnx")
    return Report(verdict=Verdict.DIVERGENT, reason="", seed=0, samples=Samples(), source=info, target=info,
                  findings=list(findings), repairs=repairs or [])


def test_an_entry_answers_to_the_finding_at_its_layer() -> None:
    both = report(finding("wb-bias", "one", "first"), finding("wb-bias", "two", "second"))
    (p,) = proposals(plan(entry("wb-bias", "two")), both)
    assert (p.at, p.meaning, p.evidence, p.remedy, p.risk) == ((1,), ["second"], ["seen"], ["mend"], ["none"])


def test_one_that_mends_several_answers_to_all() -> None:
    both = report(finding("wb-bias", "one", "first"), finding("lh-dilation", "two", "second"))
    (p,) = proposals(plan(entry("wb-bias+lh-dilation", "one")), both)
    assert (p.at, p.meaning, p.evidence) == ((0, 1), ["first", "second"], ["seen"])
    assert p.title == "Bias lost or misplaced and Wrong dilation"


def test_of_several_elsewhere_none_is_taken() -> None:
    both = report(finding("wb-bias", "one", "first"), finding("wb-bias", "two", "second"))
    (p,) = proposals(plan(entry("wb-bias", "three")), both)
    assert p.at == () and "bias" in p.meaning[0].lower()


def test_without_a_report_the_catalogue_tells(tmp_path: Path) -> None:
    first, *_ = proposals(plans.read(plan_in(tmp_path)), None)
    assert first.title == "Wrong dilation" and "dilation" in first.meaning[0] and first.remedy and first.risk
    assert first.evidence == ["In the trial, because of Conv_0."] and first.cares == []


@pytest.mark.parametrize("code", ["cg-unexplained", "of-another-package"])
def test_unknown_kinds_are_shown_too(code: str) -> None:
    (p,) = proposals(plan(entry(code, "x")), None)
    assert p.title in ("Unexplained difference", code) and p.meaning and p.evidence


def test_what_needs_care_is_said() -> None:
    unsure = entry("wb-bias", "one", "review")
    tried = [Repair(code="wb-bias", id=unsure.id, status="rejected", why="it does not help")]
    (p,) = proposals(plan(unsure), report(finding("wb-bias", "one", "m", 0.2), repairs=tried))
    assert len(p.cares) == 3 and "it does not help." in p.cares[-1]
    kept = [msgspec.structs.replace(tried[0], status="kept")]
    assert proposals(plan(entry("wb-bias", "one")), report(finding("wb-bias", "one", "m"), repairs=kept))[0].cares == []


@pytest.mark.parametrize(("error", "words"), [
    (None, "not measured"), (0.0, "exactly as in the original"), (1e-7, "but for rounding (1e-07)"),
    (0.25, "off by 25% of"), (1.47, "off by 147% of"), (12.0, "off by 12 times"),
])
def test_errors_in_words(error: float | None, words: str) -> None:
    assert words in off(error)
