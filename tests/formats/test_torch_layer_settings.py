"""Layer settings that PyTorch holds as arguments: four of them wrong at once in a TorchScript archive, and repaired."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from fetafix import api
from fetafix.report import Verdict
from tests.networks import export

WIDTH, SIZE = 8, (3, 16, 16)


class Net(nn.Module):
    """A reflected border, an Elu, a group normalisation, a bent map, and six scores."""

    def __init__(self, border: str, alpha: float, groups: int, corners: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode=border)
        self.act, self.norm = nn.ELU(alpha), nn.GroupNorm(groups, WIDTH)
        self.last, self.head = nn.Conv2d(WIDTH, WIDTH, 3), nn.Linear(WIDTH, 6)
        self.corners = corners
        line = torch.linspace(-0.9, 0.9, 12)
        self.register_buffer("grid", torch.stack(torch.meshgrid(line, line**3, indexing="xy"), -1)[None])

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        x = self.norm(self.act(self.conv(self.stem(image))))
        x = f.grid_sample(x, self.grid.expand(x.shape[0], -1, -1, -1), align_corners=self.corners)
        scores: Tensor = self.head(torch.relu(self.last(x)).mean((2, 3)))
        return scores


def test_settings_of_torch_layers_are_found_and_written_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source, target = Net("reflect", 0.4, 4, True).eval(), Net("zeros", 1.0, 2, False).eval()
    target.load_state_dict(source.state_dict())
    x = torch.randn(48, *SIZE)
    export(source, tmp_path / "a.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(target, x[:2]).save(str(tmp_path / "b.pt"))  # type: ignore[no-untyped-call]
    np.save(tmp_path / "x.npy", x.numpy())
    options, out = api.Options(data=tmp_path / "x.npy", samples=32, gate="numeric", threads=1), tmp_path / "c.pt"
    report = api.repair(tmp_path / "a.onnx", tmp_path / "b.pt", options, api.RepairOptions(output=out, apply=True))
    assert {f.code for f in report.findings} == {"lh-pad-mode", "lh-elu-alpha", "lh-in-gn", "lh-gridsample"}
    assert report.verdict is Verdict.REPAIRED, report.reason
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(out))(x[32:37]), source(x[32:37]), atol=1e-5)  # another batch size
    again = api.localize(tmp_path / "a.onnx", out, options)
    assert (again.verdict, again.findings) == (Verdict.EQUIVALENT, [])
