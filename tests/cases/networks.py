"""A network around one layer, its exports, and the samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from tests.cases.case import Pair

Change = Callable[[onnx.ModelProto], None]


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the function makes of x."""
        return self.function(x)


def around(layer: nn.Module, size: Sequence[int] = (3, 16, 16), channels: int = 8, seed: int = 0) -> nn.Module:
    """Conv, the layer, Conv, Relu, head of ten classes; the head is centred so that labels vary.

    The layer gets (N, channels, H, W), negative values among them.
    """
    torch.manual_seed(seed)
    stem = nn.Conv2d(size[0], channels, 3, padding=1)
    with torch.no_grad():
        stem.weight.mul_(2.0)
        shape = layer(stem(torch.zeros(1, *size))).shape
    convolution = nn.Conv2d(int(shape[1]), 12, 3, padding=1)
    head = nn.Linear(12 * int(shape[2]) * int(shape[3]), 10)
    return centred(nn.Sequential(stem, layer, convolution, nn.ReLU(), nn.Flatten(), head), samples(size))


def centred(network: nn.Sequential, x: np.ndarray[Any, Any]) -> nn.Module:
    """The network, its last layer's scores shifted and scaled so that each is the highest for some sample."""
    head, network = network[-1], network.eval()
    with torch.no_grad():
        scores = network(torch.tensor(x))
        mean, spread = scores.mean(0), scores.std(0) + 1e-6
        head.weight.div_(spread[:, None])
        head.bias.sub_(mean).div_(spread)
    return network


def samples(size: Sequence[int] = (3, 16, 16), count: int = 60, seed: int = 5) -> np.ndarray[Any, Any]:
    """Smooth normalised images with texture, float32 (count, *size)."""
    rng = np.random.default_rng(seed)
    channels, height, width = size
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.zeros((count, channels, height, width))
    for _ in range(4):
        a, b, phase = (rng.uniform(low, 12, (count, channels, 1, 1)) for low in (-12, -12, 0))
        waves += rng.normal(0, 1, (count, channels, 1, 1)) * np.sin(a * x + b * y + phase)
    return (waves / 1.5 + rng.normal(0, 0.1, waves.shape)).astype(np.float32)


def exported(network: nn.Module, path: Path, x: np.ndarray[Any, Any], opset: int = 17, dynamo: bool = False,
             **options: Any) -> Path:
    """The network as ONNX by one of PyTorch's exporters; the batch is dynamic unless `options` says otherwise."""
    given = (torch.tensor(x[:2]),)
    if not dynamo:
        options = {"dynamic_axes": {"x": {0: "N"}, "y": {0: "N"}}, "opset_version": opset, **options}
    else:
        options = {"dynamic_shapes": ({0: torch.export.Dim("N")},), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, given, str(path), input_names=["x"], output_names=["y"], dynamo=dynamo, **options)
    return path


def program(network: nn.Module, path: Path, x: np.ndarray[Any, Any]) -> Path:
    """The network as PyTorch's exported program (.pt2), its batch dynamic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.export.export(network, (torch.tensor(x[:2]),), dynamic_shapes=({0: torch.export.Dim("N")},))
        torch.export.save(made, str(path))
    return path


def pair(folder: Path, source: Path, target: Path, x: np.ndarray[Any, Any]) -> Pair:
    """The pair with its samples written."""
    data = folder / "samples.npy"
    np.save(data, x)
    return Pair(source, target, data)


def edited(source: Path, out: Path, *changes: Change) -> Path:
    """A copy of an ONNX file with changes made to it."""
    model = onnx.load(source)
    for change in changes:
        change(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)
    return out


def attributes(op: str, which: int = 0, drop: Sequence[str] = (), **values: Any) -> Change:
    """Give the which-th node of an operator other attributes."""

    def change(model: onnx.ModelProto) -> None:
        node = [n for n in model.graph.node if n.op_type == op][which]
        kept = [a for a in node.attribute if a.name not in values and a.name not in drop]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])

    return change


def tensor(op: str, slot: int, change: Callable[[np.ndarray[Any, Any]], Any], which: int = 0) -> Change:
    """Change the initializer that the which-th node of an operator takes in a slot."""

    def apply(model: onnx.ModelProto) -> None:
        name = [n for n in model.graph.node if n.op_type == op][which].input[slot]
        held = next(t for t in model.graph.initializer if t.name == name)
        changed = np.ascontiguousarray(change(numpy_helper.to_array(held)))
        held.CopyFrom(numpy_helper.from_array(changed.astype(numpy_helper.to_array(held).dtype), name))

    return apply


def bypassed(op: str, which: int = 0) -> Change:
    """Take a node out: its readers get its first input."""

    def change(model: onnx.ModelProto) -> None:
        node = [n for n in model.graph.node if n.op_type == op][which]
        for reader in model.graph.node:
            reader.input[:] = [node.input[0] if i == node.output[0] else i for i in reader.input]
        model.graph.node.remove(node)

    return change


def replaced(op: str, new: str, which: int = 0, **values: Any) -> Change:
    """Make another operator of a node, on its first input alone."""

    def change(model: onnx.ModelProto) -> None:
        node = [n for n in model.graph.node if n.op_type == op][which]
        other = helper.make_node(new, list(node.input[:1]), list(node.output), node.name, **values)
        node.CopyFrom(other)

    return change
