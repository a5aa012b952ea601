"""The UltraFace detector RFB-320 (github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB) as a plain module.

Keys as in `version-RFB-320.pth`. Inputs float32[N, 3, 240, 320]; outputs scores float32[N, 4420, 2] and boxes
float32[N, 4420, 4], decoded to corners (x0, y0, x1, y1 in shares of the image) or raw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = (320, 240)
MINIMA = ((10.0, 16.0, 24.0), (32.0, 48.0), (64.0, 96.0), (128.0, 192.0, 256.0))
STRIDES = (8, 16, 32, 64)
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


def _separable(inside: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False), nn.BatchNorm2d(inside), nn.ReLU(),
        nn.Conv2d(inside, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
    )  # fmt: skip


def _head(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, stride, 1, groups=inside), nn.ReLU(), nn.Conv2d(inside, out, 1)
    )


class Unit(nn.Module):
    """Convolution and normalisation, with or without Relu."""

    def __init__(self, inside: int, out: int, kernel: int = 1, dilation: int = 1, relu: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, 1, dilation * (kernel // 2), dilation, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Receptive(nn.Module):
    """Three branches of growing dilation beside a shortcut."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        eighth, quarter = width // 8, width // 4
        self.branch0 = nn.Sequential(
            Unit(width, eighth), Unit(eighth, quarter, 3, relu=True), Unit(quarter, quarter, 3, 2)
        )
        self.branch1 = nn.Sequential(
            Unit(width, eighth), Unit(eighth, quarter, 3, relu=True), Unit(quarter, quarter, 3, 3)
        )
        self.branch2 = nn.Sequential(
            Unit(width, eighth), Unit(eighth, 12, 3, relu=True), Unit(12, quarter, 3, relu=True),
            Unit(quarter, quarter, 3, 5),
        )  # fmt: skip
        self.ConvLinear = Unit(3 * quarter, width)
        self.shortcut = Unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x)], 1)
        return torch.relu(self.ConvLinear(branches) + self.shortcut(x))


def priors() -> Tensor:
    """Centre and size of every anchor box as shares of the image, clipped to 0…1: float32[4420, 4]."""
    width, height = SIZE
    rows = []
    for stride, minima in zip(STRIDES, MINIMA, strict=True):
        wide, high = -(-width // stride), -(-height // stride)
        for j in range(high):
            for i in range(wide):
                centre = (i + 0.5) / wide, (j + 0.5) / high
                rows += [[*centre, m / width, m / height] for m in minima]
    return torch.tensor(rows).clamp(0, 1)


class UltraFace(nn.Module):
    """Scores and boxes of four scales."""

    def __init__(self, decode: bool = True) -> None:
        super().__init__()
        plan = ((16, 32, 1), (32, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1))
        deep = ((64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 1))
        stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.base_net = nn.ModuleList(
            [stem, *(_separable(*p) for p in plan), Receptive(), *(_separable(*p) for p in deep)]
        )
        self.extras = nn.ModuleList([nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), _head(64, 256, 2), nn.ReLU())])
        widths = (64, 128, 256)
        self.classification_headers, self.regression_headers = (
            nn.ModuleList(
                [*(_head(w, per * len(m)) for w, m in zip(widths, MINIMA, strict=False)),
                 nn.Conv2d(256, per * len(MINIMA[3]), 3, 1, 1)]
            )
            for per in (2, 4)
        )  # fmt: skip
        self.decode = decode
        self.register_buffer("priors", priors()[None], persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features, x = [], image
        for i, layer in enumerate(self.base_net):
            x = layer(x)
            if i in (7, 10, 12):
                features.append(x)
        features.append(self.extras[0](x))
        scores = _joined(self.classification_headers, features, 2).softmax(2)
        boxes = _joined(self.regression_headers, features, 4)
        return scores, self._corners(boxes) if self.decode else boxes

    def _corners(self, boxes: Tensor) -> Tensor:
        centre = boxes[..., :2] * CENTRE_VARIANCE * self.priors[..., 2:] + self.priors[..., :2]
        size = (boxes[..., 2:] * SIZE_VARIANCE).exp() * self.priors[..., 2:]
        return torch.cat([centre - size / 2, centre + size / 2], 2)


def _joined(heads: nn.ModuleList, features: list[Tensor], width: int) -> Tensor:
    """float32[N, anchors, width]: the anchors of all scales one after the other."""
    made = [head(x).permute(0, 2, 3, 1).flatten(1) for head, x in zip(heads, features, strict=True)]
    return torch.cat(made, 1).unflatten(1, (-1, width))


def detector() -> UltraFace:
    """With decoded boxes."""
    return UltraFace()


def raw_detector() -> UltraFace:
    """Boxes as the network predicts them."""
    return UltraFace(decode=False)
