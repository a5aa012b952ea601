"""Networks for operators that the others lack: LRN, groups, resampling, in-place writes, integer arithmetic, states."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from fetafix.bench.zoo.networks import Network, calibrate, diversify, images, tensors
from fetafix.ir import Array


class AlexNet(nn.Module):
    """Pixels (N, 3, H, W) in 0..255 to (N, 10) scores: local response normalisation, groups, overlapping pooling.

    In the manner of Krizhevsky et al. 2012; it normalises its pixels itself. A depthwise layer has a multiplier of 2.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, last: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([58.395, 57.12, 57.375]).reshape(1, 3, 1, 1))
        self.conv1 = nn.Conv2d(3, width, 5, 2, 2)
        self.lrn = nn.LocalResponseNorm(5, alpha=0.3, k=1.0)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(2 * width, 4 * width, 3, padding=1, groups=2 * width)
        self.conv3 = nn.Conv2d(4 * width, 2 * width, 3, padding=1, groups=4)
        self.fc1, self.fc2 = nn.Linear(2 * width * last * last, 4 * width), nn.Linear(4 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        x = torch.relu(self.conv1((image - self.mean) / self.deviation))
        x = f.max_pool2d(self.lrn(x), 3, 2, ceil_mode=True)
        x = f.max_pool2d(self.conv2(x), 3, 2, padding=1)
        x = f.avg_pool2d(self.conv3(f.elu(self.depthwise(x))), 3, 2, padding=1, ceil_mode=True)
        x = f.hardswish(self.fc1(torch.flatten(f.leaky_relu(x, 0.2), 1)))
        scores: Tensor = self.fc2(x)
        return scores


class StyleNet(nn.Module):
    """(N, 3, 2s, 2s) to an image of that size, in the manner of Johnson et al. 2016, for s channels at size s.

    Reflected borders, instance and group normalisation, nearest, bicubic and sub-pixel upsampling.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = 2 * side
        self.conv1, self.norm1, self.slope = nn.Conv2d(3, side, 3), nn.InstanceNorm2d(side, affine=True), nn.PReLU(side)
        self.conv2, self.norm2 = nn.Conv2d(side, side, 3, 2), nn.GroupNorm(4, side)
        self.gate, self.conv3 = nn.Conv2d(side, side, 1), nn.Conv2d(side, side, 3, padding=1)
        self.conv4, self.conv5 = nn.Conv2d(side, side, 3, padding=1), nn.Conv2d(side, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        nn.init.uniform_(self.slope.weight, 0.05, 0.6)

    def forward(self, image: Tensor) -> Tensor:
        """The image, values in 0..1."""
        x = self.slope(self.norm1(self.conv1(f.pad(image, (1, 1, 1, 1), mode="reflect"))))
        x = f.elu(self.norm2(self.conv2(f.pad(x, (0, 1, 0, 1)))))
        x = x * torch.softmax(3.0 * self.gate(x), 1) + x
        x = f.leaky_relu(self.conv3(f.interpolate(x, scale_factor=1.5, mode="nearest")), 0.1)
        x = f.interpolate(x, size=(self.side, self.side), mode="bicubic", align_corners=False)
        x = self.shuffle(self.conv5(f.hardswish(self.conv4(x))))
        smaller: Tensor = f.hardsigmoid(f.avg_pool2d(x, 3, 2, padding=1))
        return smaller


class Transformer(nn.Module):
    """(N, 3, side, side) to (N, 10) scores: the image is turned and scaled as a small network says, then classified.

    In the manner of Jaderberg et al. 2015.
    """

    base: Tensor

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        line = (torch.arange(side) * 2 + 1) / side - 1
        y, x = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("base", torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3))
        self.where = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2), nn.ReLU(), nn.AvgPool2d(side // 4), nn.Flatten(),
                                   nn.Linear(4 * width, 6))
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.SiLU(),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        turned = self.where(image).reshape(-1, 2, 3) + torch.tensor([[0.9, 0.3, 0.1], [-0.3, 0.9, 0.0]])
        grid = (self.base @ turned.transpose(1, 2)).reshape(-1, self.side, self.side, 2)
        seen = f.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        scores: Tensor = self.head(self.body(seen))
        return scores


class Decoder(nn.Module):
    """Token ids (N, T), 0 where there is none, to the next token's scores (N, words), keys and values (N, H, T, D).

    One causal layer in the manner of GPT; the words' embedding serves the output, too. Positions are counted along the
    tokens, and split into blocks around the middle of the sequence.
    """

    future: Tensor

    def __init__(self, words: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.middle = heads, length // 2
        self.words, self.block, self.place = (nn.Embedding(n, width) for n in (words, length // 2 + 2, 4))
        self.start = nn.Parameter(torch.randn(width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.register_buffer("future", torch.triu(torch.full((length, length), -1e4), 1))
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, 0.0, 2.0 / math.sqrt(width))

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, keys, values."""
        n, t = input_ids.shape
        position = torch.cumsum((input_ids > 0).to(torch.int64), 1) - self.middle
        x = self.words(input_ids) + self.block(torch.div(position, 4, rounding_mode="floor") + self.middle // 4 + 1)
        x = x + self.place(torch.remainder(position, 4))
        x[:, 0] = self.start + 0.5 * x[:, 0]
        q, k, v = (layer(self.norm1(x)).reshape(n, t, self.heads, -1).transpose(1, 2)
                   for layer in (self.query, self.key, self.value))
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + self.future[:t, :t], -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, -1))
        x = x + self.mlp(self.norm2(x))
        return self.norm3(x[:, -1]) @ self.words.weight.T, k, v


def alexnet(small: bool, seed: int) -> Network:
    """127×127, 48 channels; small: 47×47, 8 channels."""
    module = AlexNet(8, 4) if small else AlexNet(48, 9)
    raw = images(64 if small else 100, 47 if small else 127, seed)
    samples = {"image": np.rint(np.clip(raw * 55 + 120, 0, 255)).astype(np.float32)}
    return _calibrated(module, module.fc2, samples)


def stylenet(small: bool, seed: int) -> Network:
    """128×128; small: 24×24."""
    side = 12 if small else 64
    module = StyleNet(side)
    samples = {"image": images(48 if small else 100, 2 * side, seed)}
    for norm in (module.norm1, module.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    module.conv5.weight.mul_(3)
    return Network(module=module.eval(), samples=samples, outputs=("picture",), scores="picture")


def stn(small: bool, seed: int) -> Network:
    """64×64, 32 channels; small: 20×20, 6 channels."""
    module = Transformer(20 if small else 64, 6 if small else 32)
    return _calibrated(module, module.head, {"image": images(64 if small else 100, module.side, seed)})


def gpt(small: bool, seed: int) -> Network:
    """64 tokens of 5,000 words, width 256; small: 12 of 24 words, width 24."""
    words, length, width, heads = (24, 12, 24, 4) if small else (5000, 64, 256, 8)
    rng, count = np.random.default_rng(seed), 64 if small else 100
    tokens = rng.integers(1, words, (count, length)) * (rng.random((count, length)) > 0.2)
    module = Decoder(words, length, width, heads)
    samples = {"input_ids": tokens}
    calibrate(module, tensors(samples, 2))
    return Network(module=module, samples=samples, outputs=("scores", "key", "value"))


def _calibrated(module: nn.Module, head: nn.Linear, samples: dict[str, Array]) -> Network:
    batch = tensors(samples, 32)
    calibrate(module, batch)
    diversify(head, module(*batch), 1)
    return Network(module=module, samples=samples)
