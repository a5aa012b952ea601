"""JUnit XML that any reader parses, whatever models and files are called."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.gate.record import GateReport, PairResult, Status
from fetafix.render import junit
from fetafix.report import Report
from tests.render.gates import ALL, GATES
from tests.render.reports import REPORTS


def parsed(report: Report | GateReport) -> ET.Element:
    return ET.fromstring(junit.render(report).encode())


@pytest.mark.parametrize("name", ALL)
def test_counts_are_those_of_the_cases(name: str) -> None:
    root = parsed(ALL[name])
    cases = root.findall("testsuite/testcase")
    counts = {"tests": len(cases), "failures": len(root.findall(".//failure")), "errors": len(root.findall(".//error"))}
    for element in (root, root[0]):
        assert {k: int(element.get(k, "")) for k in counts} == counts
    names = [(c.get("classname"), c.get("name")) for c in cases]
    assert len(set(names)) == len(names) == (1 if isinstance(ALL[name], Report) else len(ALL[name].pairs))


def test_each_ending_has_its_element() -> None:
    tags = {c.get("name"): [e.tag for e in c] for c in parsed(GATES["gate"]).iter("testcase")}
    assert tags == {
        "mobilenet (labels)": ["failure", "system-out"], "resnet (labels)": ["system-out"],
        "digits (labels)": ["system-out"], "large (labels)": ["error", "system-out"]}


def test_a_failure_carries_reason_and_findings() -> None:
    failure = parsed(GATES["gate"]).find(".//failure")
    assert failure is not None and failure.get("message") == "Two layers introduce error."
    assert "lh-dilation: another dilation, at features.18" in (failure.text or "")
    assert "which is over: known to the customer" in (failure.text or "")


def test_an_accepted_pair_says_why() -> None:
    accepted = parsed(GATES["gate"]).findall(".//testcase")[1]
    assert "accepted until 2030-01-01: retrained afterwards" in (accepted.findtext("system-out") or "")


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_makes_valid_xml(text: str) -> None:
    report = GateReport(config=text, pairs=[PairResult(
        name=text, status=Status.FAILED, report=_reason(text))])
    root = parsed(report)
    shown = root.find(".//failure")
    assert shown is not None
    assert not set(shown.text or "") & set("\x00\x08\x0b\x1b")


def _reason(text: str) -> Report:
    return msgspec.structs.replace(REPORTS["localize"], reason=text)
