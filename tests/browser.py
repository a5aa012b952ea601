"""A real Chromium, without a screen, for tests of pages: the fixture `browser`, and what tests ask it.

`browser` skips, with the reason, where Debian's chromium and chromedriver are missing, and fails there where
FETAFIX_BROWSER=required (as `.ci/run` sets it). Every test gets a blank page, an empty console and no emulation; the
process is shared by the tests of a module. Nothing is downloaded: the two programs are named, selenium's manager is not
asked.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PROGRAMS = ("chromium", "chromedriver")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--force-color-profile=srgb", "--hide-scrollbars", "--window-size=1280,900", "--lang=en",
    "--no-proxy-server",  # pages are files, or served on loopback
)  # fmt: skip
REQUIRED = "FETAFIX_BROWSER"


def missing() -> str:
    """Why there is no browser here; "" where there is one."""
    lacking = [p for p in PROGRAMS if shutil.which(p) is None]
    if lacking:
        return f"no {' and no '.join(lacking)} on this machine (Debian: apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install 'fetafix[dev]')"
    return ""


def refuse(reason: str) -> NoReturn:
    """Skip a test, or fail it where a browser is required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{REQUIRED}=required, but there is {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The process, one a module; tests take `browser`."""
    if reason := missing():
        refuse(reason)
    driver = start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """A selenium WebDriver on a blank page."""
    _reset(chromium)
    return chromium


def start(profile: Path) -> Chrome:
    """Start Chromium with the new and empty folder `profile` as its user's."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    browser, driver = (str(shutil.which(p)) for p in PROGRAMS)
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.ignore_local_proxy_environment_variables()  # the driver is on this machine
    made = Chrome(options=options, service=ChromeService(executable_path=driver))
    made.set_page_load_timeout(60)
    made.set_script_timeout(60)
    return made


def _reset(driver: Chrome) -> None:
    first, *others = driver.window_handles
    for handle in others:
        driver.switch_to.window(handle)
        driver.close()
    driver.switch_to.window(first)
    driver.get("about:blank")
    driver.delete_all_cookies()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    for log in ("browser", "performance"):
        driver.get_log(log)  # reading empties it


def show(driver: Chrome, page: str, folder: Path) -> None:
    """Open a page that is a text, as a file."""
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    driver.get(file.as_uri())


def media(driver: Chrome, scheme: str = "light", kind: str = "", motion: str = "no-preference") -> None:
    """Emulate a colour scheme ("light", "dark"), a medium ("print", "" for the screen) and wishes about motion."""
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def viewport(driver: Chrome, width: int, height: int = 900) -> None:
    """Make the page so wide and high, in CSS pixels; narrower than any window can be made."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def console(driver: Chrome) -> list[str]:
    """Everything that the console was told since it was last asked, except for information."""
    return [f"{e['level']}: {e['message']}" for e in driver.get_log("browser") if e["level"] not in ("INFO", "DEBUG")]


def requests(driver: Chrome) -> list[str]:
    """Addresses that the browser asked for since it was last asked, beside pages themselves and what is in them.

    As the network saw it: also what failed, and files; data: and blob: are no requests.
    """
    told = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
    sent = [m["params"] for m in told if m["method"] == "Network.requestWillBeSent"]
    asked = [p["request"]["url"] for p in sent if p.get("type") != "Document"]
    return [url for url in asked if not url.startswith(("data:", "blob:"))]


def accessible(driver: Chrome) -> list[dict[str, Any]]:
    """The accessibility tree as a list of its nodes that are not ignored: role, name, description, properties."""
    driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        {"role": n["role"]["value"], "name": n.get("name", {}).get("value", ""),
         "description": n.get("description", {}).get("value", ""),
         **{p["name"]: p["value"].get("value") for p in n.get("properties", [])}}
        for n in nodes if not n.get("ignored")
    ]  # fmt: skip


def overflow(driver: Chrome) -> int:
    """By how many pixels the page is wider than what it is shown in."""
    width: int = driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def tabbed(driver: Chrome, limit: int = 200) -> Sequence[str]:
    """Press Tab until the focus has gone round; what was focused, as "tag#id: text" in order."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    tell = ("const e = document.activeElement; if (!e || e === document.body) return '';"
            "return e.tagName.toLowerCase() + '#' + e.id + ': ' + (e.getAttribute('aria-label') || e.textContent)"
            ".trim().slice(0, 80)")
    seen: list[str] = []
    for _ in range(limit):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        told = driver.execute_script(tell)
        if not told:
            break
        seen.append(told)
    return seen


def screenshot(driver: Chrome, file: Path) -> None:
    """The whole page as a PNG, not only what is in view."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    file.write_bytes(base64.b64decode(shot["data"]))
