"""What every builder of the zoo hands over, and what calibrates networks that were not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fetafix.bench.calibration import spread
from fetafix.inputs import natural
from fetafix.ir import Array


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network in evaluation mode with its samples, by input name in the order of `forward`'s arguments.

    outputs: names in order; scores: the one that labels are read from.
    """

    module: nn.Module
    samples: Mapping[str, Array]
    outputs: tuple[str, ...] = ("scores",)
    scores: str = "scores"


def images(count: int, side: int, seed: int, channels: int = 3) -> Array:
    """Made-up natural images, normalised: float32 (count, channels, side, side)."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([natural.image(rng, side, side, channels) for _ in range(count)]).astype(np.float32)
    return np.ascontiguousarray(((drawn - drawn.mean()) / drawn.std()).transpose(0, 3, 1, 2))


def calibrate(network: nn.Module, batch: tuple[Tensor, ...]) -> None:
    """Give every normalisation a scale and an offset of its own, and batch norms the statistics of `batch`."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.3)
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # a plain average over the batches
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    network(*batch)  # each layer sees what the calibrated ones before it make
    network.eval()


def diversify(head: nn.Linear | nn.Conv2d, scores: Tensor, axis: int) -> None:
    """Rescale a head's classes so that each gives its scores (along `axis`) the mean 0 and the deviation 1."""
    classes = scores.shape[axis]
    scale, offset = spread(scores.movedim(axis, -1).reshape(-1, classes).numpy())
    shape = (-1,) + (1,) * (head.weight.ndim - 1)
    head.weight.copy_(head.weight * torch.from_numpy(scale).reshape(shape))
    assert head.bias is not None
    head.bias.copy_(head.bias * torch.from_numpy(scale) + torch.from_numpy(offset))


def tensors(samples: Mapping[str, Array], count: int | None = None) -> tuple[Tensor, ...]:
    """The first samples as the network's arguments."""
    return tuple(torch.from_numpy(v[:count]) for v in samples.values())
