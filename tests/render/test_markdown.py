"""Markdown that shows what it is given and nothing else; rendered by a CommonMark implementation to see so."""

from __future__ import annotations

import html
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fetafix.gate.record import GateReport
from fetafix.render import markdown
from fetafix.render.markup import code, escape, line
from fetafix.report import OutputAgreement, TaskAgreement
from tests.render.gates import ALL, GATES, HOSTILE_REPORT
from tests.render.reports import REPORTS

SHOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")
TEXT = st.text(st.characters(exclude_categories=("Cs",)))


def plain(rendered: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", rendered)).strip("\n")


@given(TEXT)
def test_escaped_text_shows_as_it_is(text: str) -> None:
    assert line(plain(SHOWN.render(escape(text)))) == line(text)


@given(TEXT)
def test_code_shows_as_it_is_in_tables_too(text: str) -> None:
    assert line(plain(SHOWN.render(f"x {code(text)}"))) == line(f"x {line(text)}")
    cell = SHOWN.render(f"| a | b |\n|---|---|\n| x{code(text, table=True)} | y |")
    assert re.search(r"<td>x(.*)</td>\s*<td>y</td>", cell, re.DOTALL), cell


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[a](javascript:b)", "![a](b)", "# a", "1. a", "- a",
                                  "a:100:b", "$x$", "@somebody", "a\n\n<img src=x>", "**a**", "_a_", "~~a~~"])
def test_text_makes_no_markup(text: str) -> None:
    rendered = SHOWN.render(escape(text))
    assert re.findall(r"<(\w+)", rendered) == ["p"]
    assert not re.search(r"(?<!\\):100:|(?<!\\)\$|@", escape(text))


@pytest.mark.parametrize("name", ALL)
def test_every_row_has_the_same_cells(name: str) -> None:
    shown = SHOWN.render(markdown.render(ALL[name]))
    for table in re.findall(r"<table>.*?</table>", shown, re.DOTALL):
        assert len({row.count("</td>") + row.count("</th>") for row in table.split("</tr>")[:-1]}) == 1


def test_what_models_are_called_makes_no_markup() -> None:
    shown = SHOWN.render(markdown.render(HOSTILE_REPORT))
    assert set(re.findall(r"<(\w+)", shown)) <= {
        "h2", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "ol", "li", "p", "strong",
        "code"}


def test_failures_are_unfolded() -> None:
    text = markdown.render(GATES["gate"])
    assert text.count("<details open>") == 2 and text.count("<details>") == 2 and text.count("</details>") == 4
    assert text.startswith("## ❌ fetafix gate: 4 pairs, 1 passed, 1 accepted, 1 failed, 1 undecided\n")


def test_before_and_after() -> None:
    assert "| answers that agree | 60% | 100% |" in markdown.render(REPORTS["repair"])


def test_it_ends_before_github_refuses_it() -> None:
    many = GateReport(config="f", pairs=[
        msgspec.structs.replace(GATES["gate"].pairs[0], name=f"pair {i}") for i in range(40)])
    text = markdown.render(many, limit=20_000)
    assert len(text.encode()) <= 20_000 and text.count("| pair ") == 41
    assert re.search(r"The details of \d+ pairs are left out", text)
    assert text.count("<details") == text.count("</details>") > 0


def test_answers_of_other_tasks_count() -> None:
    told = REPORTS["check_divergent"].agreement
    assert told is not None
    tasks = [TaskAgreement(task="tokens", outputs=["y"], weighs=True, share=0.75),
             TaskAgreement(task="segmentation", outputs=["z"], weighs=True, share=0.25),
             TaskAgreement(task="embedding", outputs=["w"], share=0.0)]
    outputs = [OutputAgreement(source=n, target=n, max_abs=v) for n, v in (("y", 0.5), ("z", 30.0), ("w", None))]
    report = msgspec.structs.replace(
        REPORTS["check_divergent"], agreement=msgspec.structs.replace(told, tasks=tasks, outputs=outputs))
    assert "| labels | 25% | 30 |" in markdown.render(report)
