"""The verdict for somebody who knows no networks, and how sure it is."""

from __future__ import annotations

import msgspec
import pytest

from fetafix.render.plain import certainty, counted, figure, mended, sentence
from fetafix.report import Finding, Repair, Report, Samples, Search, TaskAgreement, Verdict
from tests.render.reports import BAD, FINDINGS, GOOD, REPORTS

ALIKE = msgspec.structs.replace(BAD, top1=1.0)


def having(**changes: object) -> Report:
    """The report of a check that disagrees, with changes."""
    return msgspec.structs.replace(REPORTS["check_divergent"], **changes)


SEGMENTED = [
    TaskAgreement(task="segmentation", outputs=["m"], weighs=True, samples=30, agreeing=27, share=0.9,
                  bounds=(0.7, 0.98)),
    TaskAgreement(task="embedding", outputs=["e"], weighs=False, samples=30, agreeing=1, share=1 / 30),
]
SENTENCES = {
    "The converted model gives the same answer as the original on every one of 30 test inputs.":
        REPORTS["check_equivalent"],
    "The converted model gives the same answer as the original on the one test input.":
        having(verdict=Verdict.EQUIVALENT, agreement=msgspec.structs.replace(GOOD, samples=1)),
    "The converted model gives another answer than the original on 12 of 30 test inputs.": having(),
    "The converted model gives another answer than the original on 12 of 30 test inputs, which is within what was "
    "allowed.": having(verdict=Verdict.EQUIVALENT),
    "The converted model gives the same answer as the original on every one of 30 test inputs, but its numbers differ "
    "by more than harmless rounding explains.": having(verdict=Verdict.DRIFTING, agreement=ALIKE),
    "The converted model is not a faithful copy of the original, although it gives the same answer as the original on "
    "every one of 30 test inputs.": having(agreement=ALIKE),
    "The converted model puts out other numbers than the original: they differ by up to 14.2, where 0.0001 would be "
    "harmless.": having(gate="numeric"),
    "The converted model puts out the same numbers as the original on every one of 30 test inputs, up to harmless "
    "rounding.": having(gate="numeric", agreement=GOOD, verdict=Verdict.EQUIVALENT),
    "The converted model does not answer like the original.": having(agreement=None),
    "The converted model gives another answer than the original on 3 of 30 test inputs.":
        having(gate="task", agreement=msgspec.structs.replace(BAD, tasks=SEGMENTED)),
    "The converted model gives another answer than the original on 12 of 30 test inputs; two causes were found.":
        REPORTS["localize"],
    "The converted model gives another answer than the original on 12 of 30 test inputs; no cause was found.":
        having(command="localize"),
    "The converted model gives another answer than the original on 12 of 30 test inputs; one cause was found, and it "
    "could not be mended.": having(command="repair", findings=FINDINGS[:1]),
    "The converted model gives another answer than the original on 12 of 30 test inputs; two causes were found, and "
    "none of them could be mended.": having(command="repair", findings=FINDINGS),
    "The converted model gave another answer than the original on 12 of 30 test inputs; two causes were found and one "
    "of them mended: the repaired model gives the same answer on every one.": REPORTS["repair"],
    "The converted model gave another answer than the original on 12 of 30 test inputs; one cause was found and "
    "mended: the repaired model still gives another answer on 6 of them.": msgspec.structs.replace(
        REPORTS["repair"], findings=FINDINGS[:1], after=msgspec.structs.replace(GOOD, top1=0.8)),
    "The converted model gave another answer than the original on 12 of 30 test inputs; one approved change was made "
    "on trial: so repaired, it gives the same answer on every one, and nothing was written.": msgspec.structs.replace(
        REPORTS["repair"], findings=[], output=None),
    "No converted model that answers like the original came about.": having(command="convert", agreement=None),
    "It could not be decided whether the converted model gives the same answers as the original.": REPORTS["undecided"],
}  # fmt: skip


@pytest.mark.parametrize("said", SENTENCES)
def test_the_verdict_in_one_sentence(said: str) -> None:
    assert sentence(SENTENCES[said]) == said


def told(report: Report, weak: bool | None = None) -> str:
    return " ".join(c.text for c in certainty(report) if weak is None or c.weak == weak)


def test_how_sure_a_repair_is() -> None:
    said = told(REPORTS["repair"])
    assert "judged on 30 inputs that it was not chosen on: they were kept apart from the 70" in said
    assert "the answers agree on between 88.4% and 100% of all inputs of their kind" in said
    sure = msgspec.structs.replace(REPORTS["repair"], after=msgspec.structs.replace(GOOD, confidence=0.95))
    assert "of all inputs of their kind, with 95% confidence." in told(sure)
    assert "up to one in 9 such inputs gets another answer" in said
    assert "differs from itself by up to 9.5\u202f×\u202f10⁻⁶ under harmless changes" in said


def test_reservations() -> None:
    assert told(REPORTS["undecided"], weak=True).startswith("Nothing was compared")
    shaky = having(samples=Samples(search=1, origin="synthetic (weaker evidence)", skipped=["a"]), after=GOOD)
    said = told(shaky, weak=True)
    assert "No input was kept apart" in said and "weaker evidence" in said and "1 input could not be used" in said
    found = having(search=Search(level="quick", tried=8, found=2))
    assert "8 further inputs were made up to provoke a difference; 2 of them show one" in told(found, weak=True)
    clean = having(search=Search(level="quick", tried=8))
    assert "none within the range of real inputs shows one" in told(clean, weak=False)


def test_which_repair_belongs_to_a_finding() -> None:
    kept = Repair(code="other-code", target_layer="a", status="kept")
    report = having(repairs=[kept, Repair(code="lh-x", target_layer="b", status="rejected")])

    def at(layer: str, code: str) -> Finding:
        return Finding(code=code, category="LH", title="t", target_layer=layer)

    assert mended(report, at("a", "lh-x")) == kept and mended(report, at("b", "lh-x")) is None
    both = msgspec.structs.replace(report, repairs=[kept, msgspec.structs.replace(kept, code="lh-x")])
    assert mended(both, at("a", "lh-x")) == both.repairs[1] and mended(both, at("a", "wb-y")) is None


def test_numbers_in_words() -> None:
    assert [counted(n, "cause") for n in (0, 1, 2, 12, 1300)] == [
        "no causes", "one cause", "two causes", "twelve causes", "1,300 causes"]
    assert [figure(v) for v in (None, 0.0, -0.5, 7.63e-6, 1.5e12)] == [
        "–", "0", "−0.5", "7.63\u202f×\u202f10⁻⁶", "1.5\u202f×\u202f10¹²"]
