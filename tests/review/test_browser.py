"""A review as a person does it, in a real browser: decide, apply, by keyboard, in two windows; and who intrudes."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fetafix.journal import read
from tests import browser as pages
from tests.commands import run, start, state, wait_until
from tests.review.runs import HOSTILE, copied, decision, desk, entries, holds_only_the_bias, pair, plan_in

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broken pair and the run of a dry repair, in `run`."""
    folder = pair(tmp_path_factory.mktemp("made") / "pair")
    assert run(folder, "repair", "source.onnx", "broken.onnx", "--data", "x.npy", "--save-run", "run").code == 0
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, where nothing is decided."""
    return copied(made, tmp_path / "pair")


@contextmanager
def served(folder: Path, *args: object) -> Iterator[str]:
    """The address of the page of `run`, served as a user has it."""
    process = start(folder, "review", "run", "--no-open", *args)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in errors, errors


class Page:
    """The page in a window, as a person uses it."""

    def __init__(self, driver: Chrome, url: str, name: str = "") -> None:
        self.driver, self.url = driver, url
        driver.get(url)
        self.window = driver.current_window_handle
        self.wait(lambda: "decided" in self.text("#count"))
        if name:
            field = self.one("#by")
            field.clear()
            field.send_keys(name)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def card(self, code: str) -> str:
        """The selector of an entry's card."""
        found = self.driver.execute_script(
            "return [...document.querySelectorAll('.entry')].find(e => e.textContent.includes(arguments[0])).id", code)
        return f"#{found}"

    def decide(self, code: str, choice: str, why: str = "") -> str:
        """Decide an entry; its card's selector."""
        card = self.card(code)
        self.one(f"{card} textarea").send_keys(why)
        self.press(f"{card} button[data-choice={choice}]")
        return card

    def press(self, selector: str) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})",
                                   self.one(selector))  # fmt: skip
        self.one(selector).click()

    def wait(self, condition: Any, seconds: float = 60) -> None:
        wait_until(condition, seconds)

    def deafen(self) -> None:
        """It hears no more of what others decide, as if it had just looked."""
        self.driver.execute_script(
            "const real = window.fetch; window.fetch = (u, o) => o.method ? real(u, o) : new Promise(() => {});")

    def here(self) -> None:
        self.driver.switch_to.window(self.window)


def test_approve_one_reject_one_apply(browser: Chrome, place: Path) -> None:
    originals = {k: v for k, v in state(place).items() if k.endswith((".onnx", ".npy", "report.json"))}
    with served(place, "-o", "out.onnx") as url:
        page = Page(browser, url, "Ada Lovelace")
        card = page.decide("wb-bias", "approve", "compared it with the checkpoint")
        page.wait(lambda: "Approved by Ada Lovelace" in page.text(f"{card} .decision"))
        assert "compared it with the checkpoint" in page.text(f"{card} .decision")
        assert page.one(f"{card} button[data-choice=approve]").get_attribute("aria-pressed") == "true"
        other = page.decide("lh-dilation", "reject", "that was changed\non purpose")
        page.wait(lambda: "Rejected by Ada Lovelace" in page.text(f"{other} .decision"))
        assert page.text("#count") == "2 of 2 decided: 1 approved, 1 rejected."
        assert page.text("#apply") == "Apply the approved edit"
        page.press("#apply")
        page.wait(lambda: page.text("#outcome h3") != "" if page.driver.find_elements("css selector", "#outcome h3")
                  else False)  # fmt: skip
        outcome = page.text("#outcome")
        assert "Written, but the models still disagree" in outcome and str(place / "out.onnx") in outcome
        assert "one approved change was made: the repaired model still gives another answer" in outcome
        assert "output 'scores' judged as classification" in outcome  # the report's notes
        assert pages.console(browser) == []
        assert all(r.startswith(url) for r in pages.requests(browser))
    assert {k: v for k, v in state(place).items() if k in originals} == originals
    holds_only_the_bias(place)
    told = entries(place)
    yes, no = told["wb-bias"], told["lh-dilation"]
    assert (yes.approved, yes.decided_by, yes.comment) == (True, "Ada Lovelace", "compared it with the checkpoint")
    assert (no.approved, no.decided_by, no.comment) == (False, "Ada Lovelace", "that was changed\non purpose")
    journal = list(read(place / "run" / "journal.jsonl"))
    said = [(e["event"], e["entry"], e["by"], e["why"]) for e in journal if e["event"] in ("approved", "rejected")]
    assert said == [("approved", yes.id, "Ada Lovelace", yes.comment), ("rejected", no.id, "Ada Lovelace", no.comment)]
    assert all(e["time"].endswith("Z") for e in journal) and yes.decided_at and no.decided_at
    written, applied = (next(e for e in journal if e["event"] == event) for event in ("written", "applied"))
    assert (written["entries"], written["approved_by"]) == ([yes.id], "Ada Lovelace")
    assert (applied["entries"], applied["by"], applied["verdict"]) == ([yes.id], "Ada Lovelace", "partly_repaired")


def test_what_the_page_shows(browser: Chrome, place: Path) -> None:
    with served(place) as url:
        page = Page(browser, url)
        assert page.text("h1") == "2 edits to decide about" and browser.title == "Review of broken.onnx"
        card = page.text(page.card("lh-dilation"))
        for words in ("Wrong dilation", "/mid/Conv", "off by 36.7% of the size", "exactly as in the original",
                      "set dilations = (2, 2)", "WHAT WENT WRONG", "WHY IT IS BELIEVED", "WHAT COULD GO WRONG"):
            assert words.lower() in card.lower(), words
        assert len(browser.find_elements("css selector", ".entry svg.graph")) == 4
        for summary in browser.find_elements("css selector", "summary"):
            browser.execute_script("arguments[0].click()", summary)
        assert page.one("svg.chart").is_displayed()
        for width in (1280, 800, 375):
            pages.viewport(browser, width)
            assert pages.overflow(browser) == 0, width
        shown = []
        for scheme in ("light", "dark"):
            pages.media(browser, scheme)
            shown.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert shown[0] != shown[1] and pages.console(browser) == []
        assert {r.removeprefix(url) for r in pages.requests(browser)} == {"state"}


def test_by_keyboard_and_for_screen_readers(browser: Chrome, place: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with served(place, "--by", "Ada") as url:
        page = Page(browser, url)
        tree = [(n["role"], n["name"]) for n in pages.accessible(browser)]
        assert ("heading", "Proposed edits") in tree and tree.count(("button", "Approve")) == 2
        assert any(r == "textbox" and "Your name" in n for r, n in tree)
        assert sum(r == "form" and "Your decision about edit" in n for r, n in tree) == 2
        assert all(n for r, n in tree if r in ("button", "textbox", "link", "image", "article"))
        focused = "return document.activeElement === document.querySelector('#entry-1 [data-choice=reject]')"
        for _ in range(60):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            if browser.execute_script(focused):
                break
        ActionChains(browser).send_keys(Keys.SPACE).perform()
        page.wait(lambda: "Rejected by Ada" in page.text("#entry-1 .decision"))
        assert browser.execute_script(focused), "the focus stays where it was"
        assert "Rejected by Ada" in str(page.one("#said").get_attribute("textContent"))
        assert page.one("#said").get_attribute("role") == "status"
    assert [e.approved for e in entries(place).values()] == [False, None]


def test_two_windows_lose_nothing(browser: Chrome, place: Path) -> None:
    with served(place) as url, served(place) as second:  # two servers, too
        ada = Page(browser, url, "Ada")
        browser.switch_to.new_window("window")
        bob = Page(browser, second, "Bob")
        bob.deafen()
        ada.here()
        ada.deafen()
        first = ada.decide("wb-bias", "approve", "sure")
        ada.wait(lambda: "Approved by Ada" in ada.text(f"{first} .decision"))
        bob.here()
        bob.decide("lh-dilation", "reject", "no")
        bob.wait(lambda: "Rejected by Bob" in bob.text(f"{bob.card('lh-dilation')} .decision"))
        assert "Approved by Ada" in bob.text(f"{first} .decision")  # told along with his own
        ada.here()
        assert "To be decided." in ada.text(f"{ada.card('lh-dilation')} .decision")  # she has not looked since
        other = ada.decide("lh-dilation", "approve", "yes")
        ada.wait(lambda: "somebody was faster" in ada.text(f"{other} [role=alert]"))
        assert "Rejected by Bob" in ada.text(f"{other} [role=alert]") and "no" in ada.text(f"{other} .decision")
        assert ada.one(f"{other} textarea").get_attribute("value") == "yes"  # what she wrote is not lost
        kept = {code: (e.approved, e.decided_by) for code, e in entries(place).items()}
        assert kept == {"wb-bias": (True, "Ada"), "lh-dilation": (False, "Bob")}
        ada.press(f"{other} button[data-choice=approve]")  # having seen it
        ada.wait(lambda: "Approved by Ada" in ada.text(f"{other} .decision"))
        assert [e for e in pages.console(browser) if "409" not in e] == []


def test_decisions_of_others_show_up(browser: Chrome, place: Path) -> None:
    with served(place) as url:
        page = Page(browser, url, "Ada")
        path = place / "run" / "plan.json"
        with desk(path) as terminal:
            terminal.decide([decision(entries(place)["wb-bias"], False, "Bob", "not so")])
        page.wait(lambda: "Rejected by Bob" in page.text(f"{page.card('wb-bias')} .decision"))


def test_no_name_no_decision(browser: Chrome, place: Path) -> None:
    before = state(place)
    with served(place) as url:
        page = Page(browser, url)
        page.decide("wb-bias", "approve")
        assert "Say who you are first" in page.text("#by-wrong")
        assert browser.execute_script("return document.activeElement.id") == "by"
    assert state(place) == before


def test_failure_is_told_in_words(browser: Chrome, place: Path) -> None:
    with served(place, "-o", "out.onnx") as url:
        page = Page(browser, url, "Ada")
        page.decide("wb-bias", "approve")
        page.wait(lambda: page.one("#apply").is_enabled())
        (place / "x.npy").write_bytes(b"spoilt")
        page.press("#apply")
        page.wait(lambda: "It was not applied" in page.text("#outcome"))
        assert "x.npy" in page.text("#outcome")
    assert not (place / "out.onnx").exists()


def test_the_button_ends_the_review(browser: Chrome, place: Path) -> None:
    process = start(place, "review", "run", "--no-open")
    assert process.stdout is not None
    page = Page(browser, process.stdout.readline().strip())
    page.press("#stop")
    assert process.wait(60) == 0
    page.wait(lambda: "The review has ended" in page.text("#ended"))
    assert not page.one("#apply").is_enabled()
    process.communicate()


INTRUDER = """<!doctype html><title>intruder</title><script>
const tell = async (route, how) => {
  try { const a = await fetch(URL_ + route, how); return `${a.type} ${a.status} ${(await a.text()).length}`; }
  catch (e) { return `refused: ${e.name}`; }
};
const body = JSON.stringify(BODY), json = {"Content-Type": "application/json"};
window.done = (async () => ({
  json: await tell("decide", {method: "POST", headers: json, body}),
  plain: await tell("decide", {method: "POST", body}),
  blind: await tell("decide", {method: "POST", mode: "no-cors", body}),
  stop: await tell("stop", {method: "POST", mode: "no-cors", body: "{}"}),
  read: await tell("state", {}), page: await tell("", {credentials: "include"}),
}))();
</script><form method="post" enctype="text/plain" target="f"><input name='{"x": "' value='"}'></form>
<iframe name="f"></iframe><iframe id="framed"></iframe>"""


@pytest.mark.parametrize("origin", ["another port", "a file"])
def test_other_pages_are_refused(browser: Chrome, place: Path, tmp_path: Path, origin: str) -> None:
    """Even one that knows the token."""
    before = state(place)
    entry = entries(place)["wb-bias"]
    wanted = decision(entry, True, "Eve")
    body = {"decisions": [{"entry": wanted.entry, "approved": True, "by": "Eve", "state": wanted.state}]}
    evil = tmp_path / "evil"
    evil.mkdir()
    with served(place) as url, serving(evil) as other:
        page = INTRUDER.replace("URL_", json.dumps(url)).replace("BODY", json.dumps(body))
        (evil / "page.html").write_text(page)
        browser.get(f"{other}/page.html" if origin == "another port" else (evil / "page.html").as_uri())
        told = browser.execute_async_script("const done = arguments[0]; window.done.then(done)")
        assert told == dict.fromkeys(("json", "plain", "blind", "stop", "read", "page"), "refused: TypeError")
        browser.execute_script("const f = document.forms[0]; f.action = arguments[0] + 'decide'; f.submit();"
                               "document.getElementById('framed').src = arguments[0]", url)  # fmt: skip
        framed = browser.find_element("id", "framed")
        wait_until(lambda: framed.get_attribute("src") == url)
        browser.switch_to.frame(framed)
        wait_until(lambda: browser.execute_script("return document.readyState") == "complete")
        assert not browser.find_elements("css selector", ".entry")
        browser.switch_to.default_content()
        assert Page(browser, url).text("#count").startswith("0 of 2")  # it still runs, and nothing is decided
    assert state(place) == before


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a plain web server for a folder."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(20)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_hostile_text_does_nothing(browser: Chrome, tmp_path: Path) -> None:
    plan_in(tmp_path / "run", layer=HOSTILE.replace("{", "{{").replace("}", "}}") + "{}")
    with served(tmp_path, "--by", HOSTILE.splitlines()[0]) as url:
        page = Page(browser, url)
        page.decide("lh-dilation", "approve", "<img src=x onerror=alert(1)></script><script>alert(2)</script>")
        page.wait(lambda: "onerror=alert(1)" in page.text("#entry-1 .decision"))
        assert not browser.find_elements("css selector", "main img, main script")
        page.driver.get(url)
        page.wait(lambda: "onerror=alert(1)" in page.text("#entry-1 .decision"))
        assert "<script>alert(1)</script>" in page.text("#entry-1 .where") and pages.console(browser) == []
