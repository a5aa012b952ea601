"""The page in a real Chromium: quiet, in both schemes, on paper, on a phone, by keyboard and for screen readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetafix.render import html, stress_html
from tests import browser as pages
from tests.render.gates import GATES
from tests.render.html.pages import JOURNAL, poisoned, rich
from tests.render.reports import REPORTS
from tests.render.stress_reports import report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PAGES: dict[str, Callable[[], str]] = {
    "rich": lambda: html.render(rich(), JOURNAL),
    "hostile": lambda: html.render(poisoned(rich()), [poisoned(e) for e in JOURNAL]),
    "undecided": lambda: html.render(REPORTS["undecided"]),
    "gate": lambda: html.render_gate(GATES["gate"]),
    "hostile gate": lambda: html.render_gate(poisoned(GATES["gate"])),
}
ALL_TEXT = "return document.body.innerText"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_loads_nothing_and_fits(browser: Chrome, tmp_path: Path, name: str) -> None:
    pages.show(browser, PAGES[name](), tmp_path)
    assert pages.console(browser) == [] and pages.requests(browser) == []
    assert browser.execute_script("return window.hit") is None
    assert browser.execute_script("return document.scripts.length + document.styleSheets.length") == 1
    for width in (1280, 768, 375, 320):
        pages.viewport(browser, width)
        assert pages.overflow(browser) == 0, width


def test_the_policy_keeps_scripts_and_the_network_out(browser: Chrome, tmp_path: Path) -> None:
    """Were markup to come through, it still would do nothing."""
    worm = ('<script>window.hit=1</script><img src="https://example.org/x.png" onerror="window.hit=2">'
            '<p style="color:red">')  # fmt: skip
    pages.show(browser, html.render(rich()).replace("</main>", f"{worm}</main>"), tmp_path)
    assert browser.execute_script("return window.hit") is None
    assert sum("Content Security Policy" in line for line in pages.console(browser)) >= 3


def test_the_page_of_stress_is_quiet_too(browser: Chrome, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pages.show(browser, stress_html.page(report("none", "guard")), tmp_path)
    assert pages.console(browser) == [] and pages.requests(browser) == []
    tree = pages.accessible(browser)
    assert all(n["name"] for n in tree if n["role"] in ("image", "table", "heading"))
    for width in (1280, 375):
        pages.viewport(browser, width)
        assert pages.overflow(browser) == 0, width


def test_what_matters_is_in_view(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGES["rich"](), tmp_path)
    heading = browser.find_element("tag name", "h1")
    assert heading.text.startswith("The converted model gave another answer than the original on 12 of 30")
    assert heading.rect["y"] < 300
    assert "▲ the finding is here" in browser.execute_script("return document.body.textContent")
    picture = browser.find_element("css selector", ".sample img")
    assert picture.get_property("naturalWidth") == 1


def test_light_and_dark_follow_the_system_and_the_choice(browser: Chrome, tmp_path: Path) -> None:
    def ground() -> int:
        """From 0, black, to 765."""
        colour = browser.find_element("tag name", "body").value_of_css_property("background-color")
        return sum(int(v) for v in colour[colour.index("(") + 1:-1].split(",")[:3])

    pages.show(browser, PAGES["rich"](), tmp_path)
    pages.media(browser, "light")
    assert ground() > 700
    pages.media(browser, "dark")
    assert ground() < 100
    browser.find_element("id", "scheme-light").click()
    assert ground() > 700
    pages.media(browser, "light")
    browser.find_element("id", "scheme-dark").click()
    assert ground() < 100
    pages.media(browser, "dark", "print")
    assert ground() == 765  # paper


def test_on_paper_everything_is_open_and_controls_are_gone(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGES["rich"](), tmp_path)
    inside = browser.find_elements("css selector", "details > :last-child")
    closed = [e for e in inside if not e.rect["height"] or not e.is_displayed()]
    assert len(closed) > 3
    pages.media(browser, kind="print")
    pages.viewport(browser, 720)
    assert all(e.rect["height"] > 0 for e in inside) and "does not heal" in browser.execute_script(ALL_TEXT)
    assert not browser.find_element("tag name", "nav").is_displayed()
    assert not browser.find_element("class name", "scheme").is_displayed()
    assert pages.overflow(browser) == 0
    made = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert len(made["data"]) > 10_000


def test_everything_can_be_reached_by_keyboard(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    pages.show(browser, PAGES["rich"](), tmp_path)
    reached = pages.tabbed(browser)
    assert reached[0] == "a#: Skip to the report" and reached[1].startswith("input#scheme-system")
    links = {r.partition(": ")[2] for r in reached if r.startswith("a#")}
    assert {"How sure", "Journal"} <= links and any(text.startswith("finding 1: ") for text in links)
    summaries = browser.find_elements("tag name", "summary")
    assert sum(r.startswith("summary#") for r in reached) == len(summaries) > 4
    for summary in summaries:
        summary.send_keys(Keys.ENTER)
    assert all(d.get_attribute("open") for d in browser.find_elements("tag name", "details"))


def test_focus_is_seen_and_the_skip_link_leads_to_the_report(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    pages.show(browser, PAGES["rich"](), tmp_path)
    skip = browser.find_element("class name", "skip")
    assert skip.rect["x"] < 0
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert skip.rect["x"] >= 0 and skip.value_of_css_property("outline-style") == "solid"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.execute_script("return document.activeElement.id") == "main"


def test_marks_in_the_chart_lead_to_their_findings(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    pages.show(browser, PAGES["rich"](), tmp_path)
    tip, mark = (browser.find_element("css selector", f".chart {name}") for name in (".tip", "a"))
    assert tip.value_of_css_property("visibility") == "hidden"
    mark.send_keys(Keys.SHIFT)
    assert tip.value_of_css_property("visibility") == "visible" and "layer.3 (Conv): carries" in tip.text
    mark.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#finding-1")


@pytest.mark.parametrize("name", ["rich", "gate"])
def test_assistive_software_is_told_everything(browser: Chrome, tmp_path: Path, name: str) -> None:
    pages.show(browser, PAGES[name](), tmp_path)
    tree = pages.accessible(browser)
    images = [n for n in tree if n["role"] in ("image", "img", "figure-image", "graphics-document")]
    assert all(n["name"] for n in images)
    for role in ("link", "radio", "heading", "article", "region", "DisclosureTriangle"):
        assert all(n["name"] for n in tree if n["role"] == role), role
    roles = {n["role"] for n in tree}
    assert {"main", "banner", "contentinfo", "heading", "table", "columnheader", "rowheader"} <= roles
    levels = [int(n["level"]) for n in tree if n["role"] == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    if name == "rich":
        names = [n["name"] for n in images]
        assert "The input cat.png" in names and "Original model: where the finding is" in names
        described = [n["description"] for n in tree]
        assert any("One layer introduces error: layer.3" in d for d in described)
        assert "navigation" in roles and "Colours" in [n["name"] for n in tree if n["role"] == "group"]


def test_motion_is_left_to_those_who_want_it(browser: Chrome, tmp_path: Path) -> None:
    pages.show(browser, PAGES["undecided"](), tmp_path)
    pages.media(browser, motion="reduce")
    assert browser.find_element("tag name", "html").value_of_css_property("scroll-behavior") == "auto"
