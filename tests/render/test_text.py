"""The text report, held by golden files; FETAFIX_GOLDEN=write renews them, for a person to read in the diff."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fetafix.render import text
from fetafix.render.style import Style, percent, plural, wrap
from fetafix.report import Agreement, OutputAgreement, Report, Search, Shown
from tests.render.reports import LONG, REPORTS

GOLDEN = Path(__file__).parent / "golden"
MODES = {"short": {}, "verbose": {"verbose": True}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", REPORTS)
def test_golden(name: str, mode: str) -> None:
    rendered, path = text.render(REPORTS[name], **MODES[mode]), GOLDEN / f"{name}.{mode}.txt"
    if os.environ.get("FETAFIX_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered, "utf-8")
    assert rendered == path.read_text("utf-8")


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_colour_changes_nothing_but_colour(report: Report) -> None:
    coloured = text.render(report, verbose=True, colour=True)
    plain = text.render(report, verbose=True)
    for code in ("0", "1", "2", "1;31", "1;32", "1;33", "31", "32", "33"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain and "\x1b" not in plain


def test_quiet_is_one_line() -> None:
    assert text.render(REPORTS["localize"], quiet=True) == "fetafix localize: DIVERGENT, fails the labels gate\n"


def test_layer_names_are_whole() -> None:
    assert text.render(REPORTS["repair"]).count(LONG) == 3


def test_wrapping_cuts_no_word() -> None:
    assert wrap(f"see {LONG * 2} there", 4) == ["    see", f"    {LONG * 2}", "    there"]


@pytest.mark.parametrize(("n", "words"), [(0.0, "0 codes"), (1.0, "1 code"), (0.999, "1 code"), (1.5, "1.50 codes")])
def test_quantised_outputs_are_counted_in_codes(n: float, words: str) -> None:
    agreement = Agreement(samples=4, outputs=[
        OutputAgreement(source="y", target="z", max_abs=n / 256, code_step=1 / 256, max_codes=n)])
    report = msgspec.structs.replace(REPORTS["check_equivalent"], agreement=agreement)
    assert f"at most {words} of 0.00391" in " ".join(text.render(report).split())


def test_percent_is_honest() -> None:
    assert [percent(v) for v in (1.0, 0.5, 0.99999, 0.999999999, 0.1234, None)] == [
        "100%", "50%", "99.999%", "99.999%", "12.3%", "?"]


def test_small_pieces() -> None:
    assert plural(1, "finding") == "1 finding" and plural(0, "finding") == "0 findings"
    assert Style(True)("x", "bold red") == "\x1b[1;31mx\x1b[0m" and Style(False)("x", "red") == "x"


def test_what_was_searched_beside_the_samples() -> None:
    worst = [Shown(what="size 9", inside=True, excess=20.0, max_abs=0.25, labels=(2, 0)),
             Shown(what="impulse", inside=True)]
    found = Search(level="deep", tried=349, found=7, shown=worst, kept=["worst.npz"])
    report = msgspec.structs.replace(REPORTS["check_equivalent"], search=found, reproductions=["", "shown/2-wb-bias"])
    told = " ".join(text.render(report).split())
    assert "searched 349 inputs beside the samples (deep): 7 show a difference" in told
    assert "size 9: max |difference| 0.25, source says 2, target 0" in told
    assert "impulse: another shape, or not finite" in told and "kept worst.npz" in told
    assert "reproduced shown/2-wb-bias" in told
    nothing = msgspec.structs.replace(report, search=Search(level="quick", tried=8))
    assert "none within their range shows a difference" in " ".join(text.render(nothing).split())
    skipped = msgspec.structs.replace(report, search=Search(level="quick", skipped="the samples themselves disagree"))
    assert "searched" not in text.render(skipped)
    assert "themselves disagree" in " ".join(text.render(skipped, verbose=True).split())
