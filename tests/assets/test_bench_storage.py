"""The storage benchmark on real networks: labels and preprocessing are theirs, and protection shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetafix.bench.storage import run
from fetafix.bench.storage.settings import Settings
from fetafix.bench.storage.targets import at
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS


@pytest.mark.parametrize(("network", "least"), [("resnet20", 0.7), ("squeezenet", 0.5)])
def test_top1_of_real_networks(
    network: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETAFIX_ASSETS", str(ASSETS))
    monkeypatch.setattr(run, "speed", dict)
    settings = Settings(networks=[network], architectures=[], storages=["fp32 none", "fp32 guard channel"], ber="1e-4",
                        images=30, trials="2")
    rows = [row for row, _, _ in run.storage(run.Plan(folder=tmp_path, settings=settings))][1:]
    plain, guarded = (row.subject for row in rows)
    assert plain is not None and guarded is not None, [row.reason for row in rows]
    assert plain.original >= least and plain.clean == guarded.clean == plain.original
    cells = at(plain, 1e-4), at(guarded, 1e-4)
    assert cells[0] is not None and cells[1] is not None and cells[0].median is not None
    assert cells[1].median is not None and cells[1].median > 0.8 * plain.clean
    assert cells[1].median >= cells[0].median
