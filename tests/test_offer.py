"""A repair that a state dict cannot hold is said so, and offered as an ONNX model that is judged itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fetafix import api
from fetafix.formats.torch_env import prepare
from fetafix.report import Verdict


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The exported network, its bare state dict, and samples."""
    import torch

    from tests.offered_networks import right

    prepare(1)
    folder = tmp_path_factory.mktemp("offer")
    network = right()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.onnx.export(network, (x,), str(folder / "source.onnx"), dynamo=False, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})
    torch.save(network.state_dict(), folder / "weights.pt")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32))
    return folder / "source.onnx", folder / "weights.pt", folder / "x.npy"


def test_what_a_state_dict_cannot_hold_is_offered_as_onnx(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    source, target, data = pair
    options = api.Options(data=data, target_arch="tests.offered_networks:wrong")
    out = tmp_path / "fixed.pt"
    report = api.repair(source, target, options, api.RepairOptions(output=out, apply=True))
    assert report.verdict in (Verdict.DIVERGENT, Verdict.DRIFTING)
    assert ("cg-act-missing", "unsupported") in {(r.code, r.status) for r in report.repairs}
    assert not out.exists()
    offered = tmp_path / "fixed.onnx"
    assert any(str(offered) in note for note in report.notes)
    x = np.load(data)
    sessions = [onnxruntime.InferenceSession(str(p)) for p in (source, offered)]
    runs = [session.run(None, {session.get_inputs()[0].name: x})[0] for session in sessions]
    assert np.abs(runs[0] - runs[1]).max() < 1e-4
