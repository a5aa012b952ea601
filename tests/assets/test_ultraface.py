"""A face detector with two outputs: state dict and ONNX agree; the ONNX file whose box decoding is lost is repaired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from fetafix.api import Options, localize, repair
from fetafix.options import RepairOptions
from fetafix.report import Verdict
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
PAIR = ASSETS / "pairs/ultraface_rfb320"
BROKEN = ASSETS / "known_broken/ultraface_rfb320_simplified.onnx"
STATE, ONNX = PAIR / "version-RFB-320.pth", PAIR / "version-RFB-320.onnx"
RAW = PAIR / "version-RFB-320_without_postprocessing.onnx"
DECODED, UNDECODED = "tests.assets.ultraface:detector", "tests.assets.ultraface:raw_detector"


def faces(**more: object) -> Options:
    both = {"source_preprocess": "ultraface", "target_preprocess": "ultraface"}
    return Options(**{"data": ASSETS / "images/faces", "samples": 8, **both, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "target", "archs", "gate"),
    [
        (STATE, ONNX, {"source_arch": DECODED}, "task"),
        (ONNX, STATE, {"target_arch": DECODED}, "task"),
        (STATE, RAW, {"source_arch": UNDECODED}, "numeric"),  # nobody can tell what undecoded boxes mean
    ],
)
def test_state_dict_and_onnx_agree(
    source: Path, target: Path, archs: dict[str, str], gate: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = repair(source, target, faces(**archs), RepairOptions(apply=True, output=out))
    assert (report.verdict, report.exit_code, report.gate) == (Verdict.EQUIVALENT, 0, gate), report.reason
    assert (report.findings, report.repairs, report.output) == ([], [], None) and not out.exists()
    located = localize(source, target, faces(**archs))
    assert (located.verdict, located.findings) == (Verdict.EQUIVALENT, [])


@pytest.mark.parametrize(("source", "archs"), [(ONNX, {}), (STATE, {"source_arch": DECODED})])
def test_lost_box_decoding_is_written_back(source: Path, archs: dict[str, str], tmp_path: Path) -> None:
    before = BROKEN.read_bytes()
    out = tmp_path / "mended.onnx"
    report = repair(source, BROKEN, faces(**archs), RepairOptions(apply=True, output=out))
    assert (report.verdict, report.exit_code) == (Verdict.REPAIRED, 0), report.reason
    assert report.agreement is not None and [o.within for o in report.agreement.outputs] == [True, False]
    assert [(f.code, f.category) for f in report.findings] == [("cg-unexplained", "CG")]
    assert report.after is not None and all(o.within for o in report.after.outputs)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)
    sessions = (ort.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (out, ONNX))
    mended, wanted = ([s.run([n], {"input": x})[0] for n in ("scores", "boxes")] for s in sessions)
    for a, b in zip(mended, wanted, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    assert BROKEN.read_bytes() == before


def test_seeded_faults_in_the_state_dict_are_repaired(tmp_path: Path) -> None:
    """Tensors only can change in a state dict: it stays one, with its keys, and its own network loads it."""
    import torch

    state = torch.load(STATE, map_location="cpu", weights_only=True)
    wrong = dict(state)
    wrong["base_net.4.3.weight"] = state["base_net.4.3.weight"].flip(0)
    wrong["regression_headers.1.2.bias"] = torch.zeros_like(state["regression_headers.1.2.bias"])
    target, out = tmp_path / "wrong.pth", tmp_path / "mended.pth"
    torch.save(wrong, target)
    report = repair(ONNX, target, faces(target_arch=DECODED), RepairOptions(apply=True, output=out))
    assert (report.verdict, report.exit_code) == (Verdict.REPAIRED, 0), report.reason
    codes = {(f.category, f.target_layer) for f in report.findings}
    assert codes == {("WB", "base_net.4.3"), ("WB", "regression_headers.1.2")}, report.findings
    mended = torch.load(out, map_location="cpu", weights_only=True)
    assert list(mended) == list(state)
    assert all(torch.allclose(mended[k], v, atol=1e-6) for k, v in state.items())
