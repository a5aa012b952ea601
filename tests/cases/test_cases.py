"""Conversions that went wrong in real life: each is found, and repaired or explained."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import tests.cases
from fetafix import offer
from fetafix.api import Options, repair
from fetafix.report import Verdict
from tests.cases.case import CASES, Case

for _module in pkgutil.iter_modules(tests.cases.__path__):
    if _module.name.startswith(("by_", "again_")):
        importlib.import_module(f"tests.cases.{_module.name}")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_fault_is_found_and_repaired_or_explained(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.ending != "repaired":  # converting anew is another part's affair, and takes most of the time
        monkeypatch.setattr(offer, "offer", lambda *_: offer.Offered())
    pair = case.make(tmp_path)
    count = 60
    report = repair(pair.source, pair.target, Options(data=str(pair.data), samples=count))
    found = [f.code for f in report.findings]
    assert found, report.reason
    assert found[0] in case.codes, report.reason
    if case.ending == "repaired":
        assert report.verdict is Verdict.REPAIRED, report.reason
        assert report.after is not None
        assert report.after.top1 in (1.0, None)
    else:
        assert report.verdict in (Verdict.DIVERGENT, Verdict.PARTLY_REPAIRED)
        assert report.findings[0].explanation


def test_there_are_enough_and_each_says_what_it_is() -> None:
    assert len(CASES) >= 25
    assert len({c.name for c in CASES}) == len(CASES)
    for case in CASES:
        assert case.make.__doc__, case.name
        assert "#" in case.issue
