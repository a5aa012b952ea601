"""check() on models and photographs from the wild."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fetafix.api import Options, check
from fetafix.report import Verdict

_FOLDER = os.environ.get("FETAFIX_ASSETS", "")
pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(not Path(_FOLDER, "pairs").is_dir() or not _FOLDER, reason="FETAFIX_ASSETS names no assets"),
]
ASSETS = Path(_FOLDER)
ULTRAFACE = ASSETS / "pairs/ultraface_rfb320/version-RFB-320.onnx"
FACES = Options(data=ASSETS / "images/faces", samples=8, source_preprocess="ultraface")


def test_detector_with_itself() -> None:
    report = check(ULTRAFACE, ULTRAFACE, FACES)
    assert (report.verdict, report.gate) == (Verdict.EQUIVALENT, "task")
    assert report.agreement is not None and report.agreement.top1 is None


def test_lost_box_decoding() -> None:
    report = check(ULTRAFACE, ASSETS / "known_broken/ultraface_rfb320_simplified.onnx", FACES)
    assert (report.verdict, report.exit_code) == (Verdict.DIVERGENT, 1)
    assert report.agreement is not None
    within = {o.source: o.within for o in report.agreement.outputs}
    assert within == {"scores": True, "boxes": False}


@pytest.mark.parametrize("stage", [1, 2])
def test_recurrent_stages_with_several_inputs(stage: int) -> None:
    model = ASSETS / f"pairs/dtln/model_{stage}.onnx"
    report = check(model, model, Options(samples=12))
    assert report.verdict is Verdict.EQUIVALENT
    assert report.agreement is not None and len(report.agreement.outputs) == 2


def test_two_stages_are_no_pair() -> None:
    from fetafix.errors import InputDataError

    with pytest.raises(InputDataError, match="do not match"):
        check(ASSETS / "pairs/dtln/model_1.onnx", ASSETS / "pairs/dtln/model_2.onnx", Options(samples=4))
