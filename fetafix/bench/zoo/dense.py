"""Networks whose answer is a map or a set of boxes: a U-Net, and a detector in the manner of SSD."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fetafix.bench.zoo.networks import Network, calibrate, diversify, images, tensors


def _double(inner: int, outer: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (inner, outer):
        layers += [nn.Conv2d(first, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """(N, 3, H, W) to (N, classes, H, W) scores of the pixels (Ronneberger et al. 2015), H and W divisible by 8.

    The way up goes by transposed convolutions, and by bilinear resizing on the last level.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([3, *sizes[:-1]], sizes, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.up3 = nn.ConvTranspose2d(sizes[3], sizes[2], 2, 2)
        self.up2 = nn.ConvTranspose2d(sizes[2], sizes[1], 3, 2, padding=1, output_padding=1)
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(sizes[1], sizes[0], 1))
        self.merge = nn.ModuleList(_double(2 * s, s) for s in sizes[:3])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the pixels."""
        kept: list[Tensor] = []
        x = image
        for number, block in enumerate(self.down):
            x = block(x if not number else self.pool(x))
            kept.append(x)
        for level, up in ((2, self.up3), (1, self.up2), (0, self.up1)):
            x = self.merge[level](torch.cat([kept[level], up(x)], 1))
        scores: Tensor = self.head(x)
        return scores


class Detector(nn.Module):
    """(N, 3, side, side) to boxes (N, A, 4) and scores (N, A, classes) (Liu et al. 2016).

    Two levels of anchors; boxes are decoded from them as corners in 0..1, scores are probabilities.
    """

    def __init__(self, side: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(self._step(3, width), self._step(width, 2 * width), self._step(2 * width, 4 * width))
        self.deeper = self._step(4 * width, 4 * width)
        self.lateral = nn.Conv2d(4 * width, 4 * width, 1)
        self.boxes = nn.ModuleList(nn.Conv2d(4 * width, 2 * 4, 3, padding=1) for _ in range(2))
        self.labels = nn.ModuleList(nn.Conv2d(4 * width, 2 * classes, 3, padding=1) for _ in range(2))
        self.register_buffer("anchors", torch.cat([self._anchors(side // 8, 0.2), self._anchors(side // 16, 0.45)]))

    @staticmethod
    def _step(inner: int, outer: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inner, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU6())

    @staticmethod
    def _anchors(cells: int, size: float) -> Tensor:
        """Centre x, y, width, height in 0..1 of two boxes a cell: (cells² · 2, 4)."""
        centres = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        kinds = [torch.stack([x, y, torch.full_like(x, size * w), torch.full_like(y, size * h)], -1)
                 for w, h in ((1.0, 1.0), (1.4, 0.7))]
        return torch.stack(kinds, 2).reshape(-1, 4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores."""
        fine = self.body(image)
        coarse = self.deeper(fine)
        fine = torch.relu(self.lateral(fine) + nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        levels = (fine, coarse)
        offsets = torch.cat([self._rows(f(x), 4) for f, x in zip(self.boxes, levels, strict=True)], 1)
        logits = torch.cat([self._rows(f(x), self.classes) for f, x in zip(self.labels, levels, strict=True)], 1)
        anchors: Tensor = self.anchors  # type: ignore[assignment]
        centre = anchors[:, :2] + 0.1 * offsets[..., :2] * anchors[:, 2:]
        half = 0.5 * anchors[:, 2:] * torch.exp(0.2 * offsets[..., 2:])
        return torch.cat([centre - half, centre + half], -1).clamp(0.0, 1.0), torch.softmax(logits, -1)

    @staticmethod
    def _rows(x: Tensor, values: int) -> Tensor:
        """(N, 2·values, H, W) to (N, H·W·2, values)."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def unet(small: bool, seed: int) -> Network:
    """96×96, 24 channels on the first level; small: 24×24, 6 channels."""
    module = UNet(6 if small else 24, 5)
    samples = {"image": images(48 if small else 100, 24 if small else 96, seed)}
    batch = tensors(samples, 32)
    calibrate(module, batch)
    diversify(module.head, module(*batch), 1)
    return Network(module=module, samples=samples)


def ssd(small: bool, seed: int) -> Network:
    """128×128, 32 channels; small: 32×32, 8 channels."""
    side = 32 if small else 128
    module = Detector(side, 8 if small else 32, 6)
    samples = {"image": images(48 if small else 100, side, seed)}
    batch = tensors(samples, 32)
    calibrate(module, batch)
    for level, values in ((module.labels, 6), (module.boxes, 4)):
        for head, x in zip(level, _levels(module, batch[0]), strict=True):
            made = head(x)
            assert isinstance(head, nn.Conv2d) and made.shape[1] == 2 * values
            diversify(head, made, 1)
    return Network(module=module, samples=samples, outputs=("boxes", "scores"))


def _levels(module: Detector, image: Tensor) -> tuple[Tensor, Tensor]:
    fine = module.body(image)
    coarse = module.deeper(fine)
    up = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
    return torch.relu(module.lateral(fine) + up), coarse
