"""The benchmark of hardening: every way is measured, and leaves the same operators at run time."""

from __future__ import annotations

from pathlib import Path

from fetafix.bench.hardening import WISHES, hardening, table
from tests import small_models


def test_every_way_leaves_the_same_operators(tmp_path: Path) -> None:
    rows = hardening(small_models.cnn(tmp_path / "a.onnx"), rounds=2)
    assert len(rows) == len(WISHES) and all(r.same for r in rows)
    assert all(r.size > 0 and r.load > 0 and r.inference > 0 for r in rows)
    text = table(rows)
    assert text.count("the same") == len(WISHES) and "guard, keep, a channel" in text
