"""Networks that PyTorch runs, and no exporter translates: not at all, or wrongly. Plain twins of them can be lifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CHANNELS = 6


@torch.library.custom_op("fetafix_tests::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    """A smooth activation in an operator that no exporter knows."""
    return x * torch.sigmoid(1.5 * x)


class Twist(nn.Module):
    """The operator as a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return twist(x)


class PlainTwist(nn.Module):
    """The same of operators that every exporter knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.5 * x)


class Forked(nn.Module):
    """Exporters see another function than the one that runs; the branch on data keeps torch.fx from tracing it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.onnx.is_in_onnx_export():
            return x * torch.sigmoid(0.5 * x)
        if float(x.abs().max()) > 1e30:
            return x
        return x * torch.sigmoid(1.5 * x)


class Net(nn.Module):
    """Two branches and a head; `act` is the layer in question."""

    def __init__(self, act: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), act())
        self.left = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Tanh())
        self.mix = nn.Conv2d(CHANNELS, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        z = torch.relu(self.mix(self.left(y) + self.right(y)))
        return self.head(z.mean((2, 3)))


def plain() -> nn.Module:
    return Net(PlainTwist).eval()


def foreign() -> nn.Module:
    """With an operator that cannot be exported."""
    return Net(Twist).eval()


def forked() -> nn.Module:
    """With code that is exported wrongly."""
    return Net(Forked).eval()


def weights(seed: int = 0, **changed: Any) -> dict[str, torch.Tensor]:
    """A state of `Net` with statistics that are not those of a fresh network; changed: name → function of the value."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in plain().state_dict().items():
        if value.is_floating_point():
            fan_in = value[0].numel() if value.ndim > 1 else 1
            made = torch.randn(value.shape, generator=generator) / fan_in**0.5
            state[name] = made.abs() + 0.5 if "var" in name else made
        else:
            state[name] = value
    for name, change in changed.items():
        key = name.replace("__", ".")
        state[key] = change(state[key])
    return state


def saved(path: Path, **changed: Any) -> Path:
    """A state dict."""
    torch.save(weights(**changed), path)
    return path


def exported(path: Path, **changed: Any) -> Path:
    """The plain twin as ONNX."""
    net = plain()
    net.load_state_dict(weights(**changed))
    torch.onnx.export(net, (torch.zeros(1, 3, 12, 12),), str(path), dynamo=False, input_names=["x"],
                      output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}}, opset_version=17)
    return path


def pictures(path: Path, count: int = 24) -> Path:
    np.save(path, np.random.default_rng(3).normal(size=(count, 3, 12, 12)).astype(np.float32))
    return path
