from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetafix.judge.tasks.base import Observed
from fetafix.judge.tasks.segmentation import Segmentation, counts, mean_iou
from tests.judge.tasks.support import agree, asked, claimed, figures, seen

SEG = Segmentation()
RNG = np.random.default_rng(0)
MAPS = hnp.arrays(np.int64, (2, 8, 8), elements=st.integers(0, 4))


def blocks(n: int = 6, classes: int = 4, size: int = 16) -> np.ndarray:
    """Logits (N, C, H, W) whose class maps are made of large blocks."""
    coarse = np.random.default_rng(1).normal(size=(n, classes, 4, 4)) * 4
    return np.kron(coarse, np.ones((1, 1, size // 4, size // 4))).astype(np.float32)


LOGITS = blocks()


def test_iou_by_hand() -> None:
    """Class 0: 1 of 3 pixels, class 1: 1 of 3, class 7: none of 0 is left out."""
    s, t = np.array([[[0, 0], [1, 1]]]), np.array([[[0, 1], [0, 1]]])
    both, either = counts(s, t)
    assert both.tolist() == [[1, 1]] and either.tolist() == [[3, 3]]
    assert mean_iou(both, either)[0] == pytest.approx(1 / 3)


def test_classes_of_one_map_only_count_as_0() -> None:
    s, t = np.zeros((1, 2, 2), np.int64), np.array([[[0, 0], [0, 5]]])
    assert mean_iou(*counts(s, t))[0] == pytest.approx((3 / 4 + 0) / 2)


@given(MAPS)
def test_equal_maps_agree(s: np.ndarray) -> None:
    assert (mean_iou(*counts(s, s)) == 1.0).all()


@given(MAPS, MAPS)
def test_iou_is_symmetric_and_bounded(s: np.ndarray, t: np.ndarray) -> None:
    there, back = mean_iou(*counts(s, t)), mean_iou(*counts(t, s))
    assert there == pytest.approx(back) and (there >= 0).all() and (there <= 1).all()
    assert ((there == 1) == (s == t).all((1, 2))).all()


@given(MAPS, st.integers(0, 63), st.integers(1, 63))
def test_more_damage_is_never_better(s: np.ndarray, first: int, more: int) -> None:
    """Pixels are lost to a class that is not there, one after the other."""
    order = np.random.default_rng(first).permutation(64)
    t, worse = s.copy(), s.copy()
    t.reshape(2, 64)[:, order[:first]] = 9
    worse.reshape(2, 64)[:, order[:min(64, first + more)]] = 9
    pixels = [SEG.figures(seen(SEG, s, x), SEG.limits)["pixels"] for x in (t, worse)]
    assert pixels[0] >= pixels[1]
    both, either = counts(s, t)
    assert (counts(s, worse)[0] <= np.pad(both, ((0, 0), (0, 10 - both.shape[1])))).all() and (either >= both).all()


@given(MAPS, MAPS)
def test_chunks_join_whatever_classes_they_hold(s: np.ndarray, t: np.ndarray) -> None:
    whole = seen(SEG, s, t)
    parts = Observed() + seen(SEG, s[:1], t[:1]) + seen(SEG, s[1:], t[1:])
    assert SEG.figures(parts, SEG.limits) == pytest.approx(SEG.figures(whole, SEG.limits))


def test_forms_of_one_answer() -> None:
    """Logits in both layouts, probabilities and class maps say the same."""
    damaged = LOGITS.copy()
    damaged[0, :, :8] = damaged[0, ::-1, :8]
    wanted = figures(SEG, LOGITS, damaged)
    assert wanted["miou"] < 0.95 < 0.98 > wanted["pixels"] and wanted["worst_miou"] < wanted["miou"]
    turned = (x.transpose(0, 2, 3, 1) for x in (LOGITS, damaged))
    soft = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (LOGITS, damaged))
    maps = (x.argmax(1) for x in (LOGITS, damaged))
    for pair in (turned, soft, maps):
        assert figures(SEG, *pair) == pytest.approx(wanted)


def test_a_few_pixels_are_drift_and_a_lost_region_is_not() -> None:
    drift, lost = LOGITS.copy(), LOGITS.copy()
    drift[:, :, 0, 0] *= -1
    lost[2, :, :8] = 0
    assert agree(SEG, LOGITS, drift) == [True] * 6
    assert agree(SEG, LOGITS, lost) == [True, True, False, True, True, True]
    assert "sample" not in SEG.answer(seen(SEG, LOGITS, lost), 2) and "pixels equal" in SEG.answer(
        seen(SEG, LOGITS, lost), 2)


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (3, 16, 16, 1), (3, 16, 16)])
def test_masks_are_split_at_one_half_or_at_zero(shape: tuple[int, ...]) -> None:
    logits = np.kron(RNG.normal(size=(3, 4, 4)) * 5, np.ones((4, 4))).reshape(shape)
    mask = 1 / (1 + np.exp(-logits))
    assert asked(SEG, y=mask).facts == {"threshold": 0.5} and asked(SEG, y=logits).facts == {"threshold": 0.0}
    assert figures(SEG, mask, 0.98 * mask + 0.01)["pixels"] == 1.0
    assert figures(SEG, mask, 1 - mask)["pixels"] == figures(SEG, logits, -logits)["pixels"] == 0.0


def test_a_nan_in_one_model_disagrees() -> None:
    other = LOGITS.copy()
    other[1, 0, 3, 3] = np.nan
    assert agree(SEG, LOGITS, other) == [True, False, True, True, True, True]


SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
SURE_MASK = (LOGITS[:, :1] > 0).astype(np.float32)


@pytest.mark.parametrize(("name", "values", "sure"), [
    ("y", SOFT, ["yes"]), ("y", SOFT.transpose(0, 2, 3, 1), ["yes"]), ("scores", LOGITS, ["yes"]),
    ("seg_out", LOGITS, ["yes"]), ("y", LOGITS, ["maybe"]), ("feature_map", LOGITS, []), ("depth", LOGITS[:, :1], []),
    ("mask", SURE_MASK, ["yes"]), ("y", SURE_MASK, ["maybe"]), ("y", LOGITS[:, :1], []),
    ("y", LOGITS.argmax(1), ["yes"]), ("y", LOGITS.argmax(1).astype(np.uint8), []),
    ("y", LOGITS.argmax(1)[:, :12], []), ("y", np.full((2, 8, 9, 9), 1 / 9), ["maybe"]), ("alpha_matte", SURE_MASK, []),
    ("class_map", LOGITS.argmax(1).astype(np.uint8), ["yes"]), ("y", RNG.normal(size=(4, 64, 8, 8)), []),
    ("scores", RNG.normal(size=(4, 10)), []), ("masked_lm", RNG.normal(size=(4, 12, 30)), []),
    ("y", np.float32(np.zeros((4, 3, 4, 4))), []),
])
def test_what_it_takes_for_a_class_map(name: str, values: np.ndarray, sure: list[str]) -> None:
    assert claimed(SEG, **{name: values}) == sure


def test_of_several_outputs_score_maps_need_more_evidence() -> None:
    assert claimed(SEG, scores=LOGITS, other=np.zeros((6, 2))) == ["maybe"]
    assert claimed(SEG, mask=LOGITS, other=np.zeros((6, 2))) == ["yes"]
