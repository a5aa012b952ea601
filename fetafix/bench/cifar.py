"""CIFAR ResNets with option-A shortcuts (He et al. 2015, 4.2) as plain modules; keys as in the public checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shortcut(nn.Module):
    """Every second pixel, `extra` channels of zeros on both sides."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        """Half the size, more channels."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = Shortcut(planes // 4) if stride != 1 or inside != planes else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = F.relu(self.bn1(self.conv1(x)))
        made: Tensor = F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return made


class ResNet(nn.Module):
    """Three stages of `blocks` blocks: float32[N, 3, 32, 32] → logits float32[N, 10]."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inside = 16
        for i, planes in enumerate((16, 32, 64), start=1):
            layers = []
            for j in range(blocks):
                layers.append(Block(inside, planes, 2 if i > 1 and j == 0 else 1))
                inside = planes
            setattr(self, f"layer{i}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, before a softmax."""
        x = F.relu(self.bn1(self.conv1(x)))
        for i in (1, 2, 3):
            x = self.get_submodule(f"layer{i}")(x)
        scores: Tensor = self.linear(F.avg_pool2d(x, 8).flatten(1))
        return scores


def resnet20() -> ResNet:
    """20 layers."""
    return ResNet(3)


def resnet56() -> ResNet:
    """56 layers."""
    return ResNet(9)


def read(path: str) -> dict[str, Tensor]:
    """A public checkpoint's tensors ({"state_dict": {"module.…": …}}) by the keys of these modules."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix("module."): v for k, v in state.items()}
