"""Every finding is told in plain words, whatever its kind and whatever became of it."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from fetafix.advice import advice, advised
from fetafix.advice.prose import off, plain, sentence, sentences, sure
from fetafix.cli import cli
from fetafix.faults import HEADINGS, catalogue
from fetafix.report import Advice, Agreement, Finding, ModelInfo, Offer, Output, Repair, Report, Samples, Verdict

MODELS = {"source": ModelInfo(path="a b.onnx", format="onnx"), "target": ModelInfo(path="b.pt", format="torchscript")}
LOCALIZED = Report(verdict=Verdict.DIVERGENT, reason="", seed=0, samples=Samples(search=6, heldout=4, origin="x.npy"),
                   command="localize", passed=False, **MODELS)
REPAIRED = msgspec.structs.replace(
    LOCALIZED, command="repair", verdict=Verdict.REPAIRED, agreement=Agreement(samples=4, top1=0.25),
    after=Agreement(samples=4, top1=1.0))
OTHERS = {"unrelated-weights": "WB", "cg-native": "CG", "from-a-plugin": "LH"}
KINDS = {**{code: fault.category for code, fault in catalogue().items()}, **OTHERS}
WORDS = [re.compile(p) for p in (r"[`*#]", r"NO-OP", r"\s\s", r"\n", r"\.\.", r":\.", r"\btwins?\b", r"\banchors\b")]


def finding(code: str, layer: str | None = "layer 3", **changes: Any) -> Finding:
    known = catalogue().get(code)
    facts: dict[str, Any] = {
        "title": known.name if known else "Something", "category": KINDS[code], "confidence": 0.9, "local_error": 0.3,
        "evidence": {"error_after_trial": 1e-8} if known else {}, "explanation": "the one is 2, the other 3",
    }  # fmt: skip
    return Finding(code=code, target_layer=layer, **{**facts, **changes})


def told(code: str, report: Report = LOCALIZED, layer: str | None = "layer 3", **changes: Any) -> Advice:
    return advice(finding(code, layer, **changes), report)


def texts(a: Advice) -> list[str]:
    return [a.meaning, *a.evidence, a.remedy, a.risk, *a.next_steps]


@pytest.mark.parametrize("layer", ["layer 3", None])
@pytest.mark.parametrize("code", KINDS)
def test_every_kind_has_all_parts_in_plain_words(code: str, layer: str | None) -> None:
    a = told(code, layer=layer)
    assert a.meaning and a.evidence and a.risk and a.next_steps and all(a.evidence) and all(a.next_steps)
    assert bool(a.remedy) == (code in catalogue())
    for text in texts(a):
        assert not [w.pattern for w in WORDS if w.search(text)], text
        assert not any(f"{h}:" in text for h in HEADINGS)
    assert all(e.endswith((".", "!", "?")) for e in (a.meaning, *a.evidence, a.risk))


@pytest.mark.parametrize("code", KINDS)
def test_a_finding_that_nothing_heals_has_no_remedy_but_something_to_do(code: str) -> None:
    a = told(code, evidence={})
    assert a.remedy == "" and "Nothing is changed" in a.risk and len(a.next_steps) >= 2
    again = any("fetafix convert" in s for s in a.next_steps)
    assert again == (code != "st-storage")


def test_commands_in_the_steps_exist() -> None:
    known = {name: {o for p in cli.get_command(None, name).params for o in p.opts}  # type: ignore[arg-type, union-attr]
             for name in ("check", "localize", "repair", "convert", "faults", "review", "patch")}
    reports = [LOCALIZED, msgspec.structs.replace(REPAIRED, repairs=[kept("wb-bias")])]
    steps = [s for code in KINDS for r in reports for e in ({}, {"error_after_trial": 0.0})
             for s in advice(finding(code, evidence=e), r).next_steps]
    for step in steps:
        for command, rest in re.findall(r"fetafix (\w+)(.*)", step):
            assert set(re.findall(r"--[a-z][a-z-]+", rest)) <= known[command] | {"--help"}, step


def kept(code: str, **changes: Any) -> Repair:
    edits = [{"kind": "set_input", "description": "fc: set input 2 (float32[10])"}]
    return Repair(**{"code": code, "target_layer": "layer 3", "status": "kept", "edits": edits, **changes})


def test_a_repair_that_was_kept() -> None:
    report = msgspec.structs.replace(REPAIRED, repairs=[kept("wb-bias"), kept("lh-lrn", status="rejected")])
    a = told("wb-bias", report)
    assert a.remedy.endswith("Here, at layer 3: set input 2 (float32[10]).")
    assert any("for 4 of 4; before it was 1 of 4" in e for e in a.evidence)
    assert "fetafix repair 'a b.onnx' b.pt --apply" in a.next_steps[0]
    written = msgspec.structs.replace(report, output=Output(path="new.pt", sha256=""))
    assert told("wb-bias", written).next_steps[0] == "Use new.pt instead of b.pt, which was not changed."
    assert not any("for 4 of 4" in e for e in told("lh-lrn", report).evidence)


def test_inputs_that_are_to_be_prepared_otherwise() -> None:
    edits = [{"kind": "set_preprocessing", "description": "preprocess with color=rgb"}]
    report = msgspec.structs.replace(REPAIRED, repairs=[kept("pp-bgr", target_layer=None, edits=edits)])
    a = told("pp-bgr", report, layer=None)
    assert a.remedy.endswith("Here: preprocess with color=rgb.")
    assert "--target-preprocess SPEC" in a.next_steps[0] and "--bake --apply" in a.next_steps[1]
    noted = msgspec.structs.replace(report, notes=['prepared otherwise: --target-preprocess "color=rgb,scale=2"; more'])
    assert told("pp-bgr", noted, layer=None).next_steps[0].endswith(
        """fetafix check 'a b.onnx' b.pt --target-preprocess "color=rgb,scale=2\"""")
    assert not any("--save-patch" in s for s in a.next_steps)


def test_edits_that_stand_together_are_everybodys() -> None:
    report = msgspec.structs.replace(REPAIRED, repairs=[kept("lh-dilation+wb-bias", target_layer="elsewhere")])
    assert "set input 2" in told("wb-bias", report).remedy and "set input 2" in told("lh-dilation", report).remedy
    assert "set input 2" not in told("lh-stride", report).remedy


def test_what_the_format_cannot_hold() -> None:
    offer = Offer(path="out.onnx", format="onnx", verdict=Verdict.REPAIRED, sha256="ab")
    report = msgspec.structs.replace(REPAIRED, after=None, offers=[offer],
                                     repairs=[kept("wb-bias", status="unsupported", why="no such slot")])
    steps = told("wb-bias", report).next_steps
    assert "cannot hold this change (no such slot)" in steps[0] and "is written to out.onnx" in steps[1]
    assert any("fetafix convert" in s for s in steps)


def test_a_person_is_asked_for_where_the_fault_type_asks_for_one() -> None:
    review = [c for c, f in catalogue().items() if f.safety == "review"]
    assert review
    for code in catalogue():
        assert ("judged by a person" in told(code).risk) == (code in review)


def test_figures_become_sentences() -> None:
    a = told("lh-dilation", report=msgspec.structs.replace(LOCALIZED, findings=[finding("lh-dilation")] * 3))
    assert "off by 30% of its size: the error is made here" in a.evidence[0]
    assert "None of them is to blame, but for 2 other findings." in a.evidence[1]
    assert a.evidence[2] == "What was seen: The one is 2, the other 3."
    assert "from 30% to no more than rounding makes" in a.evidence[3]
    assert a.evidence[-1] == "Taken together this is very likely (confidence 90%)."
    broken = told("lh-dilation", local_error=None, evidence={"failure": "shapes do not fit"})
    assert "the target cannot compute it: shapes do not fit." in broken.evidence[0]
    forced = told("cg-native", evidence={"proved_by_forcing": True})
    assert any("that proves it" in e for e in forced.evidence)
    guessed = msgspec.structs.replace(LOCALIZED, samples=Samples(search=1, origin="synthetic inputs"))
    assert any("made up" in e for e in told("lh-dilation", guessed).evidence)


def test_a_reproduction_that_exists_is_named() -> None:
    found = [finding("lh-dilation"), finding("wb-bias")]
    report = msgspec.structs.replace(LOCALIZED, findings=found, reproductions=["", "shown/2-wb-bias"])
    first, second = (f.advice for f in advised(report).findings)
    assert first is not None and any("--repro DIR" in s for s in first.next_steps)
    assert second is not None and any("is in shown/2-wb-bias" in s for s in second.next_steps)


def test_every_finding_gets_advice_once() -> None:
    own = msgspec.structs.replace(finding("wb-bias"), advice=Advice(meaning="mine"))
    report = advised(msgspec.structs.replace(LOCALIZED, findings=[own, finding("lh-dilation")]))
    first, second = (f.advice for f in report.findings)
    assert first == Advice(meaning="mine") and second is not None and second.meaning.startswith("A convolution")
    assert advised(report) == report


def test_prose() -> None:
    assert plain("`a` is a NO-OP.\n  NO-OP: b") == "a is harmless. Harmless: b"
    assert plain("the guilty segment's *twins*") == "the part that is to blame's counterparts"
    assert sentence("one two") == "One two." and sentence("") == "" and sentence("conv.1 is off") == "conv.1 is off."
    assert sentence("γ is lost") == "γ is lost." and sentence("LeakyRelu bends!") == "LeakyRelu bends!"
    assert sentences("One. Two 1.5 times. Three?") == ["One.", "Two 1.5 times.", "Three?"]
    assert [off(e) for e in (0.3, 2.0, 12.34)] == ["30%", "200%", "12 times"]
    assert [sure(c) for c in (0.99, 0.85, 0.6, 0.3, 0.05)] == [
        "practically certain", "very likely", "likely", "possible", "no more than a guess"]
