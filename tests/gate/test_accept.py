from __future__ import annotations

import datetime

from fetafix.config import Accept
from fetafix.gate.accept import all_accepted, matched, notes, words
from fetafix.report import Finding

TODAY = datetime.date(2026, 5, 1)


def finding(code: str, layer: str | None = "conv1") -> Finding:
    return Finding(code=code, category="LH", title="", target_layer=layer)


def entry(code: str, layer: str | None = None, until: str = "") -> Accept:
    date = datetime.date.fromisoformat(until) if until else None
    return Accept(code=code, target_layer=layer, reason="known", until=date)


def test_an_entry_without_a_layer_accepts_its_code_everywhere() -> None:
    found = [finding("lh-dilation"), finding("lh-dilation", "conv2"), finding("wb-noise")]
    accepted, unused = matched(found, [entry("lh-dilation")], TODAY)
    assert [(a.finding.target_layer, a.expired) for a in accepted] == [("conv1", False), ("conv2", False)]
    assert unused == [] and not all_accepted(found, accepted) and all_accepted(found[:2], accepted)


def test_an_entry_with_a_layer_accepts_that_layer_alone() -> None:
    found = [finding("lh-dilation"), finding("lh-dilation", "conv2")]
    accepted, _ = matched(found, [entry("lh-dilation", "conv2")], TODAY)
    assert [a.finding.target_layer for a in accepted] == ["conv2"]


def test_an_acceptance_holds_through_its_last_day() -> None:
    for until, expired in (("2026-05-01", False), ("2026-04-30", True)):
        accepted, unused = matched([finding("lh-dilation")], [entry("lh-dilation", until=until)], TODAY)
        assert [(a.expired, a.until) for a in accepted] == [(expired, until)] and unused == []
        assert all_accepted([finding("lh-dilation")], accepted) is not expired


def test_an_entry_that_holds_wins_over_one_that_ran_out() -> None:
    both = [entry("lh-dilation", until="2020-01-01"), entry("lh-dilation", "conv1", "2030-01-01")]
    (found,), unused = matched([finding("lh-dilation")], both, TODAY)
    assert (found.until, found.expired, unused) == ("2030-01-01", False, [])


def test_entries_that_met_nothing_are_named() -> None:
    met_nothing = entry("wb-noise", "fc", "2030-01-01")
    assert matched([finding("lh-dilation")], [met_nothing], TODAY) == ([], ["wb-noise at fc (known, until 2030-01-01)"])
    assert words(entry("wb-noise")) == "wb-noise (known)"


def test_nothing_found_is_nothing_accepted() -> None:
    assert not all_accepted([], [])


def test_outside_the_gate_notes_say_what_is_accepted() -> None:
    found = [finding("lh-dilation"), finding("wb-noise", None), finding("cg-order")]
    lines = notes(found, [entry("lh-dilation", until="2030-01-01"), entry("wb-noise", until="2020-01-01")], TODAY)
    assert lines == [
        "lh-dilation at conv1 is accepted by the configuration until 2030-01-01 (known); fetafix gate passes what is "
        "accepted", "wb-noise at the interface was accepted until 2020-01-01 only (known)"]
