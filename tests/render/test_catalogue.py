"""The page of the catalogue, and its text on a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fetafix.faults as faults
from fetafix.errors import UsageError
from fetafix.render.catalogue import entry, full, listing, page

PAGE = Path(faults.__file__).parent / "CATALOGUE.md"


def entries() -> list[dict[str, object]]:
    return [entry(code) for code in faults.catalogue()]


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(entries()), "the catalogue has changed: run `make catalogue`"


def test_the_page_has_every_type_with_all_its_sections() -> None:
    text = page(entries())
    assert re.findall(r"^### (\S+)$", text, re.MULTILINE) == list(faults.catalogue())
    for section in text.split("\n### ")[1:]:
        assert [h for h in faults.HEADINGS if f"*{h}.* " not in section] == []


def test_every_link_of_the_page_leads_somewhere() -> None:
    text = page(entries())
    anchors = {f"#{code.lower()}" for code in re.findall(r"^### (\S+)$", text, re.MULTILINE)}
    links = set(re.findall(r"\]\((#[^)]+)\)", text))
    assert links == anchors


def test_what_markdown_would_read_otherwise_is_escaped() -> None:
    made = {**entry("pp-bgr"), "name": "a*b|c <d> `e*f` [g]", "documentation": {"Summary": "see wb-bias, `wb-bias`"}}
    text = page([made])
    assert r"a\*b\|c \<d> `e*f` \[g\]" in text
    assert "see [wb-bias](#wb-bias), `wb-bias`" in text


def test_the_listing_and_an_entry() -> None:
    one = entry("wb-bn-fold")
    assert listing([one]).splitlines() == [
        "WB: weights and biases", f"  wb-bn-fold  {one['name']}", "",
        "1 fault type; `fetafix faults CODE` shows one in full.",
    ]
    lines = full(one).splitlines()
    assert lines[0].startswith("wb-bn-fold: ") and lines[0].endswith("(WB, weights and biases)")
    assert [line for line in lines if line in faults.HEADINGS] == list(faults.HEADINGS)


def test_an_unknown_code() -> None:
    with pytest.raises(UsageError, match="pp-bgr"):
        entry("pp-brg")
