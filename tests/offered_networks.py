"""A small network, and the same one as its code reads after somebody lost an activation."""

from __future__ import annotations

import torch
from torch import nn


def right() -> nn.Module:
    """What the source was made from."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 6),
    )
    for parameter in (network[1].weight, network[1].bias):
        nn.init.normal_(parameter)  # type: ignore[arg-type]
    return network.eval()


def wrong() -> nn.Module:
    """The same parameters without the activation."""
    network = right()
    network[2] = nn.Identity()  # type: ignore[index]
    return network
