"""What a declared input tells: whether it has a batch axis, the shape of one item, and whether it holds images.

A *row* or *item* is what one sample contributes to an input. Where the first of at least two declared dimensions is a
batch axis (1, symbolic, unknown or −1) the item is the declared shape without it, and items may be stacked; otherwise
(rank below 2, a fixed first dimension above 1) the item is the whole declared tensor and every sample is a run of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from fetafix.errors import InputDataError
from fetafix.inputs.recipe import Preprocess
from fetafix.ir import Dim
from fetafix.report import TensorInfo

DEFAULT_SIDE = 224
_SMALLEST_SIDE = 8
_CHANNELS = (1, 3, 4)


def dims_of(spec: TensorInfo) -> tuple[Dim, ...] | None:
    """The declared shape; unknown dimensions are None, symbolic ones their name. None where there is no shape."""
    if spec.shape is None:
        return None
    return tuple(None if d == "" or (isinstance(d, int) and d < 0) else d for d in spec.shape)


def is_batched(spec: TensorInfo) -> bool:
    """Whether items of this input can be stacked along a leading batch axis; True where no shape is declared."""
    dims = dims_of(spec)
    return dims is None or (len(dims) >= 2 and (dims[0] == 1 or not isinstance(dims[0], int)))


def item_dims(spec: TensorInfo) -> tuple[Dim, ...] | None:
    """The shape of one item, unknown and symbolic dimensions kept; None where no shape is declared."""
    dims = dims_of(spec)
    return dims[1:] if dims is not None and is_batched(spec) else dims


def dtype_of(spec: TensorInfo) -> np.dtype[Any]:
    """The numpy dtype of an input. Raises InputDataError for text and for types that numpy does not have."""
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        try:
            import ml_dtypes

            dtype = np.dtype(getattr(ml_dtypes, spec.dtype))
        except (AttributeError, TypeError):
            dtype = np.dtype(object)
    if dtype.kind in "OSUMmcT":
        raise InputDataError(f"input {spec.name!r} takes {spec.dtype}; only real numbers and booleans can be fed")
    return dtype


def describe_shape(dims: tuple[Dim, ...] | None) -> str:
    """A shape for messages, "?" for what is unknown."""
    return "any shape" if dims is None else "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def known(dim: Dim) -> int | None:
    """A dimension where it is a number."""
    return dim if isinstance(dim, int) else None


def symbols(specs: list[TensorInfo]) -> list[str]:
    """Names of symbolic dimensions, batch axes aside, once each."""
    return list(dict.fromkeys(d for s in specs for d in item_dims(s) or () if isinstance(d, str)))


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How an input takes images. height, width are None where the model leaves them open.

    repeat: a fixed batch above 1 is filled with copies of the sample's image (1: one image a run).
    """

    layout: Literal["nchw", "nhwc"]
    channels: int
    height: int | None
    width: int | None
    repeat: int = 1


def image_input(spec: TensorInfo, preprocess: Preprocess | None = None) -> ImageInput | None:
    """How the input takes images, or None where it does not: rank 4, 1, 3 or 4 channels, both sides at least 8 pixels.

    An explicit layout of the preprocessing decides where both readings are possible. Where nothing is declared at all
    the usual is assumed: NCHW, 3 channels.
    """
    wish = preprocess.layout if preprocess and preprocess.layout != "auto" else None
    dims = dims_of(spec)
    if dims is None:
        return ImageInput(wish or "nchw", 3, None, None)
    if len(dims) != 4 or dtype_of(spec).name not in ("float32", "float16", "float64", "bfloat16", "uint8", "int8"):
        return None
    layouts: tuple[Literal["nchw", "nhwc"], ...] = ("nhwc", "nchw") if wish == "nhwc" else ("nchw", "nhwc")
    open_ones: list[ImageInput] = []
    for layout in layouts:
        channels, *sides = (known(d) for d in (dims[1:] if layout == "nchw" else (dims[3], dims[1], dims[2])))
        if all(s is None or s >= _SMALLEST_SIDE for s in sides) and (channels is None or channels in _CHANNELS):
            repeat = 1 if is_batched(spec) else known(dims[0]) or 1
            found = ImageInput(layout, channels or 3, sides[0], sides[1], repeat)
            if channels is not None:
                return found
            open_ones.append(found)
    return open_ones[0] if open_ones else None


def concrete(spec: TensorInfo, sizes: Mapping[str, int], batch: bool = False) -> TensorInfo:
    """The spec with symbolic dimensions set where `sizes` knows them; the batch axis stays unless `batch`."""
    if spec.shape is None:
        return spec
    start = 1 if is_batched(spec) and not batch else 0
    shape = [sizes.get(d, d) if i >= start and isinstance(d, str) else d for i, d in enumerate(spec.shape)]
    return msgspec.structs.replace(spec, shape=shape)
