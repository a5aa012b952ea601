"""torchvision's networks with seeded weights, calibrated on data: `python -m fetafix.bench.torch_networks …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.bench.calibration import prepared, spread

_NAMES = {"MobileNetV2": "mobilenet_v2", "ResNet101": "resnet101", "InceptionV3": "inception_v3"}


def make(model: str, out: Path, size: int, data: str, preset: str, seed: int) -> None:
    """Write the network as an exported program with a free batch size."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    import torch

    torch.manual_seed(seed)
    if model == "digits":
        network, example = _digits(Path(data), seed)
    else:
        images = torch.from_numpy(prepared(data, ["N", 3, size, size], preset))
        network, example = calibrated(_defined(model), images), images[:2]
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("N")},))
    torch.export.save(program, out)


def calibrated(network: Any, images: Any) -> Any:
    """The network in evaluation mode, its normalisations with the statistics of the images, its labels diverse."""
    import torch

    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None  # a plain average over the batches
    network.train()(images)  # each layer sees what the calibrated ones before it make
    network.eval()
    head = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    scale, offset = (torch.from_numpy(v) for v in spread(network(images).numpy()))
    head.weight.copy_(head.weight * scale[:, None])
    head.bias.copy_(head.bias * scale + offset)
    return network


def _defined(model: str) -> Any:
    import torchvision.models

    extra = {"aux_logits": True, "init_weights": True, "transform_input": False} if model == "InceptionV3" else {}
    return getattr(torchvision.models, _NAMES[model])(weights=None, **extra)


def _digits(data: Path, seed: int) -> tuple[Any, Any]:
    """The demonstration's network, trained; the digits to judge by go to `data`."""
    import torch

    from fetafix.demo import network

    training, test = network.load_digits(seed)
    trained = network.train(training, seed)
    if not data.exists():
        np.save(data, test.images)
    return trained, torch.from_numpy(test.images[:2])


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
