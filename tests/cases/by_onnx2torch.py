"""onnx2torch, pinned, as it is: ONNX in, a PyTorch module out. Its Resize takes no notice of several attributes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.nn import functional

from fetafix.formats.torch import env
from tests.cases.case import Pair, case
from tests.cases.networks import Change, Function, around, edited, exported, pair, samples

BY = "onnx2torch"  # its Resize modules have no place for these rules: fetafix offers the repaired ONNX model


def _converted(folder: Path, layer: nn.Module, *changes: Change) -> Pair:
    env.prepare()  # onnx2torch imports torchvision
    import onnx2torch

    x = samples()
    plain = exported(around(layer), folder / "plain.onnx", x)
    source, target = edited(plain, folder / "source.onnx", *changes), folder / "target.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(onnx2torch.convert(str(source)).eval(), target)
    return pair(folder, source, target, x)


def _resize(**attributes: Any) -> Change:
    """Give the only Resize these attributes."""

    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.op_type == "Resize")
        kept = [a for a in node.attribute if a.name not in attributes]
        del node.attribute[:]
        node.attribute.extend([*kept, *(onnx.helper.make_attribute(k, v) for k, v in attributes.items())])

    return change


def _up(factor: float, mode: str = "nearest") -> nn.Module:
    return Function(lambda x: functional.interpolate(x, scale_factor=factor, mode=mode))


@case("onnx#3816", BY, "lh-nearest-mode", "lh-attribute", ending="explained")
def nearest_ceil(folder: Path) -> Pair:
    """Resize asymmetric with nearest_mode ceil: PyTorch's nearest always floors."""
    mode = _resize(coordinate_transformation_mode="asymmetric", nearest_mode="ceil")
    return _converted(folder, _up(2.0), mode)


@case("onnxruntime#12098", BY, "lh-nearest-mode", "lh-resize-coord", ending="explained")
def nearest_half_pixel_floor(folder: Path) -> Pair:
    """Resize half_pixel with nearest_mode floor at a factor of two: half a pixel off."""
    return _converted(folder, _up(2.0), _resize(coordinate_transformation_mode="half_pixel", nearest_mode="floor"))


@case("onnxruntime#28086", BY, "lh-resize-coord", ending="explained")
def linear_asymmetric(folder: Path) -> Pair:
    """Resize linear with asymmetric coordinates: PyTorch's bilinear has centres of pixels only."""
    return _converted(folder, _up(2.0, "bilinear"), _resize(coordinate_transformation_mode="asymmetric"))


@case("onnxruntime#25264", BY, "lh-cubic-a", "lh-attribute", ending="explained")
def cubic_coefficient(folder: Path) -> Pair:
    """Resize cubic with cubic_coeff_a −0.5: PyTorch's is −0.75."""
    return _converted(folder, _up(2.0, "bicubic"), _resize(cubic_coeff_a=-0.5))
