"""Hyper-parameters that converters wrote wrongly: the defect made again in PyTorch's faithful export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tests.cases.case import Pair, case
from tests.cases.networks import Change, Function, around, attributes, edited, exported, pair, replaced, samples


def _made(folder: Path, layer: nn.Module, *changes: Change, size: Sequence[int] = (3, 16, 16), opset: int = 17) -> Pair:
    """The network around a layer, faithfully exported, and the same with the defect."""
    x = samples(size)
    source = exported(around(layer, size), folder / "source.onnx", x, opset)
    return pair(folder, source, edited(source, folder / "target.onnx", *changes), x)


def _exports(folder: Path, layer: nn.Module, wrong: nn.Module, size: Sequence[int] = (3, 16, 16)) -> Pair:
    """The network around a layer, and the same weights around another."""
    x, source, target = samples(size), around(layer, size), around(layer, size)
    target[1] = wrong  # type: ignore[index]
    wrong.load_state_dict(layer.state_dict())
    return pair(folder, exported(source, folder / "source.onnx", x), exported(target, folder / "target.onnx", x), x)


@case("tensorflow-onnx#1028", "again (tf2onnx)", "lh-same-asym", "lh-pads-lost", "tss-pad-field-order")
def same_padding_at_both_ends(folder: Path) -> Pair:
    """SAME at stride two on an even size pads one row at the end; it was written as one at either end."""
    return _made(folder, nn.Conv2d(8, 8, 3, 2, 1), attributes("Conv", 1, pads=[0, 0, 1, 1]))


@case("onnx2keras#45", "again (onnx2keras)", "tss-pad-field-order", "lh-pads-lost", "lh-same-asym")
def padding_fields_swapped(folder: Path) -> Pair:
    """The four numbers of the padding read as begin, begin, end, end where the other order was meant."""
    layer, wrong = (nn.Sequential(nn.ZeroPad2d(p), nn.Conv2d(8, 8, 3, 2)) for p in ((0, 1, 0, 1), (1, 0, 1, 0)))
    return _exports(folder, layer, wrong)


@case("onnx2tf#251", "again (onnx2tf)", "lh-dilation")
def dilation_dropped(folder: Path) -> Pair:
    """A dilated convolution became a plain one with the padding that keeps its size."""
    return _made(folder, nn.Conv2d(8, 8, 3, padding=2, dilation=2),
                 attributes("Conv", 1, dilations=[1, 1], pads=[1, 1, 1, 1]))


@case("pytorch#13934", "again (torch.onnx 1.0)", "lh-count-include-pad")
def padding_not_counted(folder: Path) -> Pair:
    """PyTorch's average counts padded pixels, ONNX's default does not; the attribute was not written."""
    return _made(folder, nn.AvgPool2d(3, 2, 1), attributes("AveragePool", drop=["count_include_pad"]))


@case("pytorch#99424", "again (torch.onnx 2.0)", "lh-ceil-mode", "lh-attribute", "lh-count-include-pad", "lh-pads-lost")
def ceiling_as_padding(folder: Path) -> Pair:
    """ceil_mode written as padding at the end whose zeros count: the last row and column are too small."""
    return _made(folder, nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
                 attributes("AveragePool", ceil_mode=0, pads=[0, 0, 1, 1], count_include_pad=1))


@case("onnx-to-keras#31", "again (onnx2keras)", "lh-maxpool-zero-pad", "cg-unexplained")
def maximum_over_zeros(folder: Path) -> Pair:
    """MaxPool's padding is −∞; it was written as an explicit Pad with zeros, which win over negative values."""
    low, bound = Function(lambda x: x - 20.0), nn.Hardtanh(-99.0, 99.0)  # ONNX Runtime fuses a Pad right before MaxPool
    layer = nn.Sequential(low, bound, nn.MaxPool2d(3, 2, 1))
    wrong = nn.Sequential(low, nn.ZeroPad2d(1), bound, nn.MaxPool2d(3, 2))
    return _exports(folder, layer, wrong)


@case("onnx2keras#89", "again (onnx2keras)", "lh-convT-outpad", "lh-attribute")
def transposed_convolution_cropped(folder: Path) -> Pair:
    """output_padding of a transposed convolution written as less cropping at the end alone."""
    return _made(folder, nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1),
                 attributes("ConvTranspose", pads=[0, 0, 1, 1], drop=["output_padding"]))


@case("keras-onnx#584", "again (keras2onnx)", "lh-leaky-alpha")
def leaky_slope(folder: Path) -> Pair:
    """Keras's LeakyReLU has a slope of 0.3; the operator's default of 0.01 was left in."""
    return _made(folder, nn.LeakyReLU(0.3), attributes("LeakyRelu", drop=["alpha"]))


@case("onnx2keras#167", "again (onnx2keras)", "lh-relu6-max")
def six_lost(folder: Path) -> Pair:
    """ReLU6 became ReLU: only activations above six tell."""
    return _made(folder, nn.Sequential(Function(lambda x: 6 * x), nn.ReLU6()), replaced("Clip", "Relu"))


@case("ncnn#2641", "again (ncnn)", "lh-hardsigmoid", "lh-attribute")
def hard_sigmoid_slope(folder: Path) -> Pair:
    """PyTorch's hard sigmoid has a slope of 1/6, the operator's default is 0.2."""
    return _made(folder, nn.Hardsigmoid(), attributes("HardSigmoid", drop=["alpha"]))


@case("tensorflow-onnx#602", "again (tf2onnx)", "lh-lrn", "lh-attribute")
def normalisation_over_neighbours(folder: Path) -> Pair:
    """LRN's alpha is divided by the size in ONNX and not in TensorFlow; it was copied."""
    x = samples()
    plain = exported(around(Function(torch.erf)), folder / "plain.onnx", x)  # PyTorch's exporter spells LRN out
    source = edited(plain, folder / "source.onnx", replaced("Erf", "LRN", size=5, alpha=0.5, beta=0.75, bias=1.0))
    return pair(folder, source, edited(source, folder / "target.onnx", attributes("LRN", alpha=0.1)), x)


@case("coremltools#1714", "again (coremltools)", "lh-softmax-axis")
def softmax_over_another_axis(folder: Path) -> Pair:
    """Softmax over channels became one over the last axis."""
    return _made(folder, nn.Softmax(1), attributes("Softmax", axis=3))


@case("tensorflow-onnx#932", "again (tf2onnx)", "lh-resize-coord")
def resize_by_corners(folder: Path) -> Pair:
    """Bilinear with half-pixel centres became asymmetric."""
    layer = Function(lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"))
    return _made(folder, layer, attributes("Resize", coordinate_transformation_mode="asymmetric"))


@case("tensorflow-onnx#2168", "again (tf2onnx)", "lh-nearest-mode", "lh-attribute")
def nearest_rounds_otherwise(folder: Path) -> Pair:
    """Nearest neighbour at a fractional scale, rounded where it should be floored."""
    layer = Function(lambda x: functional.interpolate(x, scale_factor=1.5, mode="nearest"))
    return _made(folder, layer, attributes("Resize", nearest_mode="ceil"))


@case("tvm#4029", "again (tvm)", "lh-pad-mode", "lh-attribute")
def padding_repeats_the_edge(folder: Path) -> Pair:
    """A reflecting Pad became one that repeats the border."""
    return _made(folder, nn.ReflectionPad2d(2), attributes("Pad", mode="edge"))


@case("onnx2tf#274", "again (onnx2tf)", "lh-gridsample", "lh-attribute")
def grid_between_corners(folder: Path) -> Pair:
    """GridSample with align_corners lost."""
    grid = torch.stack(torch.meshgrid(torch.linspace(-0.9, 0.7, 12), torch.linspace(-0.8, 0.95, 12), indexing="xy"), -1)
    layer = Function(lambda x: functional.grid_sample(x, grid.expand(x.shape[0], -1, -1, -1), align_corners=True))
    return _made(folder, layer, attributes("GridSample", align_corners=0))


@case("nn-transfer#3", "again (nn-transfer)", "lh-bn-eps", "lh-attribute")
def epsilon_of_another_framework(folder: Path) -> Pair:
    """InstanceNorm and BatchNorm have an epsilon of 1e-5 in PyTorch, 1e-3 in Keras; here the batch's, unfolded."""
    layer = nn.BatchNorm2d(8, eps=1e-3)
    torch.manual_seed(3)
    nn.init.uniform_(layer.running_var, 1e-3, 1e-2)  # type: ignore[arg-type]
    x = samples()
    unfolded = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    source = exported(around(layer), folder / "source.onnx", x, **unfolded)
    return pair(folder, source, edited(source, folder / "target.onnx", attributes(
        "BatchNormalization", epsilon=1e-5)), x)


@case("onnx2tf#91", "again (onnx2tf)", "tss-d2s-mode", "lh-attribute")
def depth_in_the_other_order(folder: Path) -> Pair:
    """PixelShuffle is CRD; TensorFlow's depth_to_space is DCR, and was taken for it."""
    return _made(folder, nn.PixelShuffle(2), attributes("DepthToSpace", mode="DCR"))
