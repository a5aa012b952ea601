"""Prediction and replayed measurement of a file's weights, in each storage and as they are in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetafix.formats import stored
from fetafix.storage import sweep
from fetafix.storage.encodings import FP16, FP32, INT8, Q2_5
from fetafix.storage.schemes import Plan
from fetafix.stress.beside import beside, bit_damage, foresee, layer_damage, replay
from fetafix.stress.medium import Medium, Target, encode, target
from fetafix.stress.options import Storing
from tests.small_models import cnn

PLANS = [None, Plan(FP32, "guard"), Plan(FP16, "ceiling"), Plan(Q2_5), Plan(Q2_5, "scale"), Plan(INT8)]


def struck(folder: Path, plan: Plan | None, granularity: str = "channel", checks: int = 0) -> Target:
    folder.mkdir(exist_ok=True)
    copy = stored.copy(cnn(folder / "m.onnx"), folder / "copy")
    made = target(copy, "weights", Storing(plan, checks), granularity)
    encode(made)
    return made


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: "keep" if p is None else f"{p.encoding.name} {p.scheme}")
def test_what_is_replayed_is_what_trials_do_to_the_file(tmp_path: Path, plan: Plan | None) -> None:
    wanted = struck(tmp_path, plan)
    tensors = [p.tensor for p in wanted.parts if p.tensor]
    clean = [stored.read(t).astype(np.float64) for t in tensors]
    foreseen = foresee(wanted)
    for trial in range(4):
        where = sweep.flips_of(1, 3e-4, trial, wanted.bits)
        seen = replay(foreseen, where)
        with Medium(wanted) as medium:
            medium.strike(where)
            read = [stored.read(t).astype(np.float64) for t in tensors]
            medium.heal()
        with np.errstate(invalid="ignore"):
            off = np.concatenate([np.abs(a - b).ravel() for a, b in zip(read, clean, strict=True)])
        largest = np.concatenate([np.full(c.size, np.abs(c).max()) for c in clean])
        squares = float(np.sum(np.square(off[np.isfinite(off)])))
        assert seen.squares + seen.more_squares == pytest.approx(squares, rel=1e-9)
        assert seen.wrecked + seen.more_wrecked == int(np.count_nonzero(~(off <= 2 * largest)))


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: "keep" if p is None else f"{p.encoding.name} {p.scheme}")
def test_prediction_and_measurement_agree(tmp_path: Path, plan: Plan | None) -> None:
    found = beside(foresee(struck(tmp_path, plan)), [(1e-4, 200), (1e-3, 20)], 0)
    assert [p.ber for p in found] == [1e-4, 1e-3] and [p.trials for p in found] == [20, 20]
    assert all(p.why == "" for p in found), found
    assert found[1].rms == pytest.approx(found[0].rms * 10**0.5) and 0 <= found[1].whole <= found[0].whole <= 1


def test_what_check_bytes_beside_leave_is_predicted(tmp_path: Path) -> None:
    wanted = struck(tmp_path, Plan(Q2_5, "scale"), checks=16)
    low, mid = beside(foresee(wanted), [(1e-4, 20), (8e-3, 20)], 0)
    plain = beside(foresee(struck(tmp_path / "b", Plan(Q2_5, "scale"))), [(8e-3, 20)], 0)[0]
    assert low.rms < 1e-5 * plain.rms and low.seen_rms == 0.0
    assert 0.2 * plain.rms < mid.rms < plain.rms
    assert mid.seen_rms == pytest.approx(mid.rms, rel=0.3) and mid.why == ""


def test_weights_that_are_not_those_foreseen_are_flagged(tmp_path: Path) -> None:
    """As where a bug of the engine struck other bits than the prediction is of."""
    foreseen = foresee(struck(tmp_path, Plan(Q2_5)))
    (tmp_path / "b").mkdir()
    other = foresee(struck(tmp_path / "b", Plan(Q2_5, "scale")))
    wrong = type(foreseen)(foreseen.target, foreseen.stored, other.predictions)
    assert all("not as predicted" in p.why for p in beside(wrong, [(1e-3, 20)], 0))


def test_bits_and_layers(tmp_path: Path) -> None:
    foreseen = foresee(struck(tmp_path, None))
    bits = bit_damage(foreseen)
    assert [b.bit for b in bits] == list(range(32)) and bits[30].part == "exponent" and bits[31].part == "sign"
    assert bits[30].wrecked > 0.7 > bits[22].wrecked == 0.0 and bits[30].rms > 1e30
    assert bits[31].rms < 2.0 and [b.rms for b in bits[:22]] == sorted(b.rms for b in bits[:22])
    layers = layer_damage(foreseen)
    assert {r.tensor: r.values for r in layers} == {"w1": 216, "w2": 80}
    assert all(set(r.rms) == {"sign", "exponent", "mantissa"} and r.rms["mantissa"] < r.rms["sign"] for r in layers)


def test_a_file_as_a_whole_has_no_closed_form(tmp_path: Path) -> None:
    whole = target(stored.copy(cnn(tmp_path / "m.onnx"), tmp_path / "copy"), "file")
    foreseen = foresee(whole)
    assert beside(foreseen, [(1e-5, 3)], 0) == bit_damage(foreseen) == layer_damage(foreseen) == []
