"""PyTorch's own exporters, pinned, as they are: exported programs in, ONNX out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tests.cases.case import Pair, case
from tests.cases.networks import Function, around, exported, pair, program, samples

BOTH, LEGACY, DYNAMO = "torch.onnx, both exporters", "torch.onnx dynamo=False", "torch.onnx dynamo=True"


def _converted(folder: Path, layer: nn.Module, dynamo: bool = False, size: tuple[int, int, int] = (3, 16, 16)) -> Pair:
    network, x = around(layer, size), samples(size)
    return pair(folder, program(network, folder / "source.pt2", x),
                exported(network, folder / "target.onnx", x, dynamo=dynamo), x)


@case("pytorch#105349", BOTH, "cg-native", ending="explained")
def divisor_override(folder: Path) -> Pair:
    """AvgPool2d(divisor_override=5): ONNX has no such attribute, and the exporters drop it without a word,
    the one that fetafix looks through, too: what is left is where."""
    return _converted(folder, nn.AvgPool2d(3, 2, 1, divisor_override=5))


@case("onnx#5226", LEGACY, "cg-unexplained", "cg-op-substitution", "cg-act-missing")
def softplus_beta(folder: Path) -> Pair:
    """Softplus(beta=2, threshold=3): the linear part above the threshold is lost."""
    return _converted(folder, nn.Softplus(2.0, 1.0))


@case("pytorch#111159", LEGACY, "cg-inplace-lost", "cg-unexplained")
def index_add_duplicates(folder: Path) -> Pair:
    """index_add with an index twice: ScatterElements writes where it should add, so one of two sums is lost."""
    return _converted(folder, Function(lambda x: x.index_add(1, torch.tensor([0, 0]), x[:, :2])))


@case("pytorch#61034", LEGACY, "cg-inplace-lost", "lh-attribute")
def index_put_accumulates(folder: Path) -> Pair:
    """index_put with accumulate=True and equal indices: ScatterND without a reduction."""
    def layer(x: torch.Tensor) -> torch.Tensor:
        rows = torch.tensor([1, 1])
        return x.transpose(0, 1).index_put((rows,), x.transpose(0, 1)[:2], accumulate=True).transpose(0, 1)

    return _converted(folder, Function(layer))


@case("pytorch#157220", DYNAMO, "cg-native", ending="explained")
def antialias_fraction(folder: Path) -> Pair:
    """Bicubic interpolation with antialias by the factor 0.6: the exporter writes another kernel."""
    return _converted(folder, Function(lambda x: functional.interpolate(
        x, scale_factor=0.6, mode="bicubic", antialias=True)), dynamo=True)
