"""Convolutional classifiers: the trained digits' network, a CIFAR-style ResNet, and torchvision's large ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fetafix.bench.zoo.networks import Network, calibrate, diversify, images, tensors


def digits(small: bool, seed: int) -> Network:
    """The demonstration's network, trained on scikit-learn's digits; samples are digits that it was not trained on."""
    from fetafix.demo import network

    training, test = network.load_digits(seed)
    module = network.train(training, seed)
    return Network(module=module, samples={"image": test.images[:64 if small else 360]})


class Basic(nn.Module):
    """Two 3×3 convolutions with a shortcut (He et al. 2016); a wider or smaller output is projected to (option B)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        same = stride == 1 and inner == outer
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, H, W) to (N, outer, H/stride, W/stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """(N, 3, H, W) to (N, 10) scores: three stages of `depth` blocks, `width` channels in the first."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, inner = [], width
        for stage in range(3):
            for number in range(depth):
                outer = width * 2**stage
                blocks.append(Basic(inner, outer, 2 if stage and not number else 1))
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inner, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        pooled = nn.functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1)
        scores: Tensor = self.fc(torch.flatten(pooled, 1))
        return scores


def resnet20(small: bool, seed: int) -> Network:
    """ResNet-20 at 32×32; small: half its channels, 16×16."""
    module = CifarResNet(3, 8 if small else 16)
    return _calibrated(module, module.fc, 16 if small else 32, small, seed)


def mobilenet_v2(small: bool, seed: int) -> Network:
    """MobileNetV2 at 224×224; small: a quarter of its channels, 32×32, 10 classes."""
    import torchvision.models

    more: dict[str, Any] = {"width_mult": 0.25, "num_classes": 10} if small else {}
    module = torchvision.models.mobilenet_v2(weights=None, **more)
    return _calibrated(module, module.classifier[1], 32 if small else 224, small, seed)


def resnet50(small: bool, seed: int) -> Network:
    """ResNet-50 at 224×224; small: bottlenecks that do not widen, two a stage, 64×64, 10 classes."""
    import torchvision.models
    from torchvision.models.resnet import Bottleneck, ResNet

    class Slim(Bottleneck):  # type: ignore[misc]
        expansion = 1

    module = ResNet(Slim, [2, 2, 2, 2], 10, width_per_group=16) if small else torchvision.models.resnet50(weights=None)
    return _calibrated(module, module.fc, 64 if small else 224, small, seed)


def inception_v3(small: bool, seed: int) -> Network:
    """InceptionV3 at 299×299 without its training head; small: an eighth of the channels, 75×75, 10 classes."""
    from torchvision.models import inception as parts

    class Thin(parts.BasicConv2d):  # type: ignore[misc]
        def __init__(self, inner: int, outer: int, **kwargs: Any) -> None:
            super().__init__(inner if inner == 3 else inner // 8, outer // 8, **kwargs)

    conv = Thin if small else parts.BasicConv2d
    kinds = (parts.InceptionA, parts.InceptionB, parts.InceptionC, parts.InceptionD, parts.InceptionE)
    blocks = [conv, *(partial(kind, conv_block=conv) for kind in kinds), parts.InceptionAux]
    module = parts.Inception3(num_classes=10 if small else 1000, aux_logits=False, inception_blocks=blocks,
                              init_weights=False)
    if small:
        module.fc = nn.Linear(2048 // 8, 10)
    return _calibrated(module, module.fc, 75 if small else 299, small, seed)


def _calibrated(module: nn.Module, head: nn.Linear, side: int, small: bool, seed: int) -> Network:
    samples = {"image": images(64 if small else 100, side, seed)}
    batch = tensors(samples, 32)
    calibrate(module, batch)
    diversify(head, module(*batch), 1)
    return Network(module=module, samples=samples)
