"""The fixture that tests of pages rest on: it starts, it is quiet, and it starts afresh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import browser as pages

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PAGE = """<!doctype html><html lang="en"><title>t</title><h1>Heading</h1><a href="#x" id="a">one</a>
<button id="b">two</button><img alt="a red dot" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
<style>@media (prefers-color-scheme: dark) { h1 { color: rgb(1, 2, 3) } }
@media print { #b { display: none } }</style>"""


def test_a_page_is_shown_and_told_of(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGE, tmp_path)
    assert browser.title == "t" and pages.requests(browser) == []
    assert pages.tabbed(browser) == ["a#a: one", "button#b: two"]
    tree = [(n["role"], n["name"]) for n in pages.accessible(browser)]
    assert ("heading", "Heading") in tree and ("image", "a red dot") in tree


def test_errors_and_requests_are_seen(browser: Chrome, tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("h1 { margin: 0 }")
    pages.show(browser, PAGE + "<link rel=stylesheet href=x.css><script>throw new Error('oh')</script>", tmp_path)
    assert len(pages.requests(browser)) == 1 and any("oh" in line for line in pages.console(browser))


def test_media_and_width_are_emulated_and_forgotten(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGE, tmp_path)
    assert pages.console(browser) == []  # of the test before
    pages.media(browser, "dark", "print")
    pages.viewport(browser, 375)
    heading = browser.find_element("tag name", "h1")
    assert "1, 2, 3" in heading.value_of_css_property("color")
    assert not browser.find_element("id", "b").is_displayed()
    assert browser.execute_script("return innerWidth") == 375
    wide = PAGE.replace("<h1>", '<h1 style="width: 500px">')
    pages.show(browser, wide, tmp_path)
    assert pages.overflow(browser) > 100


def test_emulation_ends_with_its_test(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGE, tmp_path)
    assert browser.execute_script("return innerWidth") > 1000
    assert browser.find_element("id", "b").is_displayed()


def test_a_required_browser_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.shutil, "which", lambda _: None)
    assert "chromium" in pages.missing() and "chromedriver" in pages.missing()
    monkeypatch.setenv(pages.REQUIRED, "required")
    with pytest.raises(pytest.fail.Exception, match="required, but there is no chromium"):
        pages.refuse(pages.missing())
    monkeypatch.delenv(pages.REQUIRED)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        pages.refuse(pages.missing())
