"""Advice in the text report: a line by default, everything with -v, commands whole."""

from __future__ import annotations

import msgspec

from fetafix.render import text
from fetafix.render.style import within
from fetafix.report import Advice, Report
from tests.render.reports import LONG, REPORTS

COMMAND = f"fetafix repair {LONG}.onnx {LONG}.tflite --apply"
ADVICE = Advice(
    meaning="A kernel is spread otherwise. The converter lost a number.", evidence=["It was measured.", "Twice."],
    remedy="Puts the number back.", risk="It may be right as it is.", next_steps=[f"Write it: {COMMAND}", "Rest."],
)  # fmt: skip


def report(advice: Advice, **changes: str) -> Report:
    first, second = REPORTS["localize"].findings
    return msgspec.structs.replace(
        REPORTS["localize"], findings=[msgspec.structs.replace(first, advice=advice, **changes), second])


def test_a_line_by_default() -> None:
    told = text.render(report(ADVICE))
    assert "     A kernel is spread otherwise.\n" in told
    assert "\n2 findings (-v: why, and what to do next)\n" in told
    assert "lost a number" not in told and "measured" not in told and COMMAND not in told


def test_no_line_that_repeats_the_title() -> None:
    plain = text.render(REPORTS["localize"])
    assert text.render(report(ADVICE, title="A kernel is spread otherwise")).count("spread otherwise") == 1
    told = text.render(report(Advice(meaning=f"{REPORTS['localize'].findings[0].explanation} More.")))
    assert told.replace(" (-v: why, and what to do next)", "") == plain


def test_all_of_it_with_v() -> None:
    lines = text.render(report(ADVICE), verbose=True).splitlines()
    assert "2 findings" in lines
    at = lines.index("     what it means")
    assert lines[at:at + 12] == [
        "     what it means", "       The converter lost a number.", "     why it is believed",
        "       - It was measured.", "       - Twice.", "     what the repair does", "       Puts the number back.",
        "     what could go wrong", "       It may be right as it is.", "     what to do next", "       - Write it:",
        f"           {COMMAND}"]


def test_a_part_that_is_empty_has_no_heading() -> None:
    told = text.render(report(msgspec.structs.replace(ADVICE, remedy="")), verbose=True)
    assert "what the repair does" not in told and "what could go wrong" in told


def test_the_width_is_respected_but_names_and_commands_are_whole() -> None:
    with within(60):
        narrow = text.render(report(ADVICE), verbose=True)
    assert COMMAND in narrow and LONG in narrow
    names = ("  source", "  target", "           fetafix")
    free = [x for x in narrow.splitlines() if max(map(len, x.split()), default=0) < 40 and not x.startswith(names)]
    assert 50 < max(map(len, free)) <= 60
