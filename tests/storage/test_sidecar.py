"""Files beside files: what they restore, that they bear faults themselves, and what they refuse."""

from __future__ import annotations

import io
from math import comb
from pathlib import Path

import numpy as np
import pytest

from fetafix.errors import UnreadableModel
from fetafix.storage import index, sidecar
from fetafix.storage.flips import flip, positions
from fetafix.storage.holding import Held


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "any.bin"
    path.write_bytes(np.random.default_rng(0).bytes(40_001))
    return path


def beside(path: Path, checks: int = 16) -> Path:
    made = path.with_name(path.name + sidecar.SUFFIX)
    with made.open("wb") as stream:
        sidecar.write(path, stream, checks)
    return made


def strike(path: Path, ber: float, seed: int) -> int:
    data = np.frombuffer(bytearray(path.read_bytes()), np.uint8)
    where = positions(np.random.default_rng(seed), data.size * 8, ber)
    flip(data, where)
    path.write_bytes(data.tobytes())
    return int(where.size)


@pytest.mark.parametrize("checks", [16, 32])
@pytest.mark.parametrize("segment", [7, 1 << 16])
def test_file_and_sidecar_are_struck_and_all_comes_back(clean: Path, checks: int, segment: int,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "_SEGMENT", segment)
    before, side = clean.read_bytes(), beside(clean, checks)
    assert strike(clean, 5e-4, 1) > 20 and strike(side, 5e-4, 2)
    out = io.BytesIO()
    done = sidecar.mend(clean, side, out)
    assert out.getvalue() == before and done.exact and done.mended > 20 and not done.lost


def test_the_header_bears_any_single_copy_lost(clean: Path) -> None:
    side = beside(clean)
    whole = sidecar.header(side)
    raw = bytearray(side.read_bytes())
    for copy in range(3):
        struck = raw.copy()
        struck[copy * 64 : copy * 64 + 64] = bytes(64)
        side.write_bytes(struck)
        assert sidecar.header(side) == whole


def test_too_many_faults_are_owned_up_to(clean: Path) -> None:
    side = beside(clean)
    strike(clean, 2e-2, 3)
    done = sidecar.mend(clean, side, io.BytesIO())
    assert done.lost and not done.exact


def test_what_is_no_sidecar_or_another_file_is_refused(clean: Path) -> None:
    side = beside(clean)
    with pytest.raises(UnreadableModel, match="no sidecar"):
        sidecar.header(clean)
    clean.write_bytes(clean.read_bytes()[:-1])
    with pytest.raises(UnreadableModel, match="another file"):
        sidecar.mend(clean, side, io.BytesIO())
    side.write_bytes(side.read_bytes()[:-1])
    with pytest.raises(UnreadableModel, match="cut off"):
        sidecar.header(side)


def test_the_expected_loss_is_that_of_the_binomial() -> None:
    wrong = 1 - (1 - 1e-3) ** 8
    beyond = 1 - sum(comb(255, k) * wrong**k * (1 - wrong) ** (255 - k) for k in range(9))
    assert sidecar.expected_lost(239 * 100, 16, 1e-3) == pytest.approx(100 * beyond, rel=1e-6)
    assert sidecar.expected_lost(102 * 10**6, 16, 1e-4) == pytest.approx(5e-7, rel=0.5)
    assert sidecar.expected_lost(239, 16, 0.0) == 0.0


def test_the_index_bears_flips_in_one_copy(tmp_path: Path) -> None:
    held = Held("w", "weight", np.dtype("<f4"), (2, 3), tmp_path / "m.data", ((8, 24),), 0)
    text = index.written([held], tmp_path / "m.onnx")
    path = tmp_path / "m.onnx.fetafix.json"
    for copy in range(3):
        struck = bytearray(text)
        third = len(text) // 3
        struck[copy * third : (copy + 1) * third] = np.random.default_rng(copy).bytes(third)
        path.write_bytes(struck)
        assert index.read(path) == [{"name": "w", "shape": [2, 3], "pieces": [[8, 24]], "file": "m.data"}]
    path.write_bytes(text[:-1])
    with pytest.raises(UnreadableModel, match="one length"):
        index.read(path)
