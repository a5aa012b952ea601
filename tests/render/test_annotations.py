"""GitHub's workflow commands: a line each, nothing in them that ends one early."""

from __future__ import annotations

import re

import msgspec
import pytest

from fetafix.gate.record import GateReport
from fetafix.render import annotations
from fetafix.report import Finding, ModelInfo, Report
from tests.render.gates import ALL, GATES
from tests.render.reports import FINDINGS, REPORTS

COMMAND = re.compile(r"::(error|warning|notice) (?:file=([^,:]+),)?title=([^,:]+)::(.*)")


def lines(report: Report | GateReport) -> list[tuple[str, ...]]:
    """(level, file, title, message) of each, with GitHub's escapes undone as the runner does."""
    found = []
    for line in annotations.render(report).splitlines():
        match = COMMAND.fullmatch(line)
        assert match, line
        found.append(tuple(_plain(g or "") for g in match.groups()))
    return found


def _plain(text: str) -> str:
    for escape, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(escape, char)
    return text


@pytest.mark.parametrize("name", ALL)
def test_every_line_is_a_command(name: str) -> None:
    lines(ALL[name])


def test_a_pair_that_passes_says_nothing() -> None:
    assert annotations.render(REPORTS["check_equivalent"]) == annotations.render(GATES["gate_passes"]) == ""


def test_levels() -> None:
    said = [(level, title.split(":")[0]) for level, _, title, _ in lines(GATES["gate"])]
    assert said == [("error", "mobilenet"), ("error", "mobilenet"), ("error", "large"), ("notice", "resnet"),
                    ("notice", "resnet")]


def test_special_characters_survive() -> None:
    finding = Finding(
        code="lh-x", category="LH", title="50%, a:b", target_layer="l:0,1", explanation="one\r\ntwo: 3%0A")
    report = msgspec.structs.replace(
        REPORTS["localize"], findings=[finding], target=ModelInfo(path="a,b:c%2C.pt", format=""))
    [(level, file, title, message)] = lines(report)
    assert (level, file) == ("error", "a,b:c%2C.pt") and title.endswith(": lh-x, 50%, a:b")
    assert message == "one\r\ntwo: 3%0A\nat l:0,1"


def test_a_pair_that_fails_without_a_finding_is_said() -> None:
    [(level, file, title, message)] = lines(REPORTS["check_divergent"])
    assert level == "error" and file == "digits converted.pt" and "divergent" in title
    assert message == "The labels differ on 12 of 30 samples."


def test_github_shows_ten_of_a_level() -> None:
    report = msgspec.structs.replace(REPORTS["localize"], findings=[FINDINGS[0]] * 25)
    found = lines(report)
    assert len(found) == 10 and found[-1][3] == "16 more annotations; the report has them all"
    assert len(lines(msgspec.structs.replace(report, findings=[FINDINGS[0]] * 10))) == 10
