"""A small residual classifier of 3×16×16 images in PyTorch, its ONNX export, and edits of ONNX files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

SIZE = (3, 16, 16)
Change = Callable[[onnx.ModelProto], None]


class Net(nn.Module):
    """Conv, BatchNorm and a residual block, pooled and classified."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.mid = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.last = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 16, 16) → ten scores."""
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.mid(x))
        x = torch.nn.functional.max_pool2d(torch.relu(self.last(x)), 2)
        return self.head(torch.flatten(x, 1))


def images(count: int = 80, seed: int = 5) -> np.ndarray[Any, Any]:
    """Smooth coloured pictures with an edge, uint8 (count, 16, 16, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] / 15.0
    made = []
    for _ in range(count):
        base, slope, tilt = rng.uniform(40, 215, 3), rng.uniform(-90, 90, 3), rng.uniform(-90, 90, 3)
        edge = (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) > rng.uniform(-0.4, 0.4))[..., None]
        made.append(base + slope * x[..., None] + tilt * y[..., None] + edge * rng.uniform(-80, 80, 3))
    return np.clip(np.stack(made) + rng.normal(0, 6, (count, 16, 16, 3)), 0, 255).astype(np.uint8)


def floats(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images as the network takes them: float32 NCHW in 0…1."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def net(seed: int = 0) -> Net:
    """The network with seeded weights, its head centred over images so that labels vary."""
    torch.manual_seed(seed)
    model = Net().eval()
    with torch.no_grad():
        model.norm.running_mean.uniform_(-0.3, 0.3)
        model.norm.running_var.uniform_(0.1, 1.5)
        scores = model(torch.from_numpy(floats(images(200, 9))))
        spread = scores.std(0)
        model.head.weight /= spread[:, None] / 3
        model.head.bias.copy_(-3 * (scores - model.head.bias).mean(0) / spread)
    return model


def export(model: nn.Module, path: Path) -> Path:
    """As ONNX with a free batch, by torch's own exporter."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(2, *SIZE),), str(path), dynamo=False, opset_version=17,
                          input_names=["image"], output_names=["scores"],
                          dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}})
    return path


def script(model: nn.Module, path: Path) -> Path:
    """As a TorchScript archive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(path))  # type: ignore[no-untyped-call]
    return path


def edited(path: Path, out: Path, *changes: Change) -> Path:
    """A copy of an ONNX file with changes."""
    model = onnx.load(path)
    for change in changes:
        change(model)
    onnx.checker.check_model(model)
    onnx.save(model, out)
    return out


def weight(name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Change:
    """Change an initializer's values."""

    def do(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        value = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
        tensor.CopyFrom(numpy_helper.from_array(value, name))

    return do


def attribute(index: int, op: str, name: str, value: list[int]) -> Change:
    """Set an attribute of the index-th node of a kind."""

    def do(model: onnx.ModelProto) -> None:
        node = [n for n in model.graph.node if n.op_type == op][index]
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return do
