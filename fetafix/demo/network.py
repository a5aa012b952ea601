"""A small image classifier that learns scikit-learn's handwritten digits in a few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_TRAINING, _BATCH, _EPOCHS, _RATE = 1437, 64, 12, 1e-2


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8) float32 in 0..1 and labels (N,) 0..9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_digits(seed: int) -> tuple[Digits, Digits]:
    """1,437 digits to learn from and 360 to judge by, in a seeded order."""
    import sklearn.datasets

    data: Any = sklearn.datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.images[order, None] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    return Digits(images[:_TRAINING], labels[:_TRAINING]), Digits(images[_TRAINING:], labels[_TRAINING:])


class Block(nn.Module):
    """Two convolutions, the second dilated, and a residual connection around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU6()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=2, dilation=2)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        inner = self.act1(self.bn1(self.conv1(x)))
        out: Tensor = self.act2(x + self.bn2(self.conv2(inner)))
        return out


class Network(nn.Module):
    """(N, 1, 8, 8) pixels in 0..1 to (N, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
        self.block1 = Block(16)
        self.pool1 = nn.AvgPool2d(3, stride=2, padding=1)
        self.widen = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU6())
        self.block2 = Block(32)
        self.pool2 = nn.MaxPool2d(2)
        self.head = nn.Linear(32 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, before a softmax."""
        x = self.pool1(self.block1(self.stem(x)))
        x = self.pool2(self.block2(self.widen(x)))
        scores: Tensor = self.head(torch.flatten(x, 1))
        return scores


def train(digits: Digits, seed: int) -> Network:
    """A network that has learnt the digits, in evaluation mode."""
    torch.manual_seed(seed)
    torch.set_grad_enabled(True)
    network = Network()
    images, labels = torch.tensor(digits.images), torch.tensor(digits.labels)
    steps = _EPOCHS * -(-len(labels) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels), _BATCH):
            batch = order[start:start + _BATCH]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    torch.set_grad_enabled(False)
    return network.eval()


def accuracy(network: nn.Module, digits: Digits) -> float:
    """The share of digits that a network reads right."""
    return float((scores(network, digits).argmax(1) == digits.labels).mean())


def scores(network: nn.Module, digits: Digits) -> NDArray[np.float32]:
    """A network's answers, (N, 10)."""
    with torch.inference_mode():
        answers: NDArray[np.float32] = network(torch.tensor(digits.images)).numpy()
    return answers


def export(network: Network, path: Path) -> None:
    """Write ONNX with BatchNormalization nodes of their own and a free batch size."""
    names = {"image": {0: "N"}, "scores": {0: "N"}}
    torch.onnx.export(
        network, (torch.zeros(1, 1, 8, 8),), str(path), input_names=["image"], output_names=["scores"],
        dynamic_axes=names, opset_version=17, dynamo=False, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
    )
