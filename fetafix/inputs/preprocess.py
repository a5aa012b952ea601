"""From pixels to a model's input: `apply` carries out a `Preprocess` for the input that a model declares.

What a pipeline leaves open is taken from the declaration: size, layout, channels and dtype. Where the user gives no
pipeline at all, `ASSUMED` is used for both models, and the sample set says so: the pixels as 0..1, or as they are for
inputs of uint8 (minus 128 for int8), squeezed to the model's size. A quantised input that is fed real numbers tells
what they should be (`quantised`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fetafix.errors import ConfigError, InputDataError
from fetafix.inputs import resample
from fetafix.inputs.recipe import PRESETS, Preprocess, Size, diff, parse
from fetafix.inputs.signature import (
    DEFAULT_SIDE,
    ImageInput,
    describe_shape,
    dims_of,
    dtype_of,
    image_input,
    is_batched,
)
from fetafix.ir import Array
from fetafix.report import TensorInfo

__all__ = ["ASSUMED", "PRESETS", "Preprocess", "Resolved", "apply", "diff", "parse", "resolve", "threads"]

ASSUMED = PRESETS["unit"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A pipeline with nothing left open. height, width: of the image before `transpose_hw`, None where any will do."""

    preprocess: Preprocess
    image: ImageInput
    layout: Literal["nchw", "nhwc"]
    channels: int
    height: int | None
    width: int | None
    dtype: np.dtype[Any]


def threads() -> int:
    """How many threads decode and resize images (Pillow and numpy release the interpreter's lock)."""
    return min(4, os.cpu_count() or 1)


def resolve(preprocess: Preprocess, spec: TensorInfo) -> Resolved:
    """Fill in what the pipeline leaves to the model.

    Raises InputDataError where the input takes no images, ConfigError where color and channels contradict each other.
    """
    image = image_input(spec, preprocess)
    if image is None:
        raise InputDataError(
            f"input {spec.name!r} is declared {describe_shape(dims_of(spec))} {spec.dtype} and takes no images "
            "(rank 4 with 1, 3 or 4 channels); give its data as .npy, .npz or by a loader"
        )
    channels = image.channels
    if preprocess.color == "gray" and spec.shape is None:
        channels = 1
    if (preprocess.color == "gray" and channels != 1) or (preprocess.color in ("rgb", "bgr") and channels == 1):
        raise ConfigError(
            f"preprocessing: color={preprocess.color}, but input {spec.name!r} has {channels} channel(s) "
            f"(declared {describe_shape(dims_of(spec))})"
        )
    height, width = image.height, image.width
    if preprocess.transpose_hw:
        height, width = width, height
    height, width = _open_sides(preprocess, height, width)
    layout: Literal["nchw", "nhwc"] = image.layout if preprocess.layout == "auto" else preprocess.layout
    dtype = dtype_of(spec) if preprocess.dtype == "auto" else np.dtype(preprocess.dtype)
    return Resolved(preprocess, image, layout, channels, height, width, dtype)


def apply(
    preprocess: Preprocess, images: Array | Sequence[Array], spec: TensorInfo, names: Sequence[str] | None = None
) -> Array:
    """The model's input for one or several uint8 RGB images (h, w, 3), also (h, w), (h, w, 1) and (h, w, 4).

    Returns (images, *item) in the layout and dtype of the input, where an item is the declared shape without its batch
    axis, or the whole of it with the image repeated where the declared batch is fixed above 1. `names` are used in
    messages. Raises InputDataError where an image ends up in another size than the model takes, ConfigError where the
    pipeline does not suit the number of channels.
    """
    plan = resolve(preprocess, spec)
    several = [images] if isinstance(images, np.ndarray) and images.ndim <= 3 else list(images)
    table = _table(plan)

    def one(image: Array) -> Array:
        pixels = _pixels(plan, image)
        pixels = pixels.swapaxes(0, 1) if preprocess.transpose_hw else pixels
        return np.stack([t[pixels[:, :, c]] for c, t in enumerate(table)], axis=0 if plan.layout == "nchw" else 2)

    with ThreadPoolExecutor(threads()) as pool:
        items = list(pool.map(one, several))
    for i, item in enumerate(items):
        _fits(item, items[0], spec, names[i] if names else f"image {i}")
    stacked = np.stack(items) if items else np.empty((0,), plan.dtype)
    if items and not is_batched(spec):
        stacked = np.repeat(stacked[:, None], plan.image.repeat, axis=1)
    return stacked


def _open_sides(p: Preprocess, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Sides that the model leaves open: what the pipeline aims at, its own size with "none", else 224."""
    size = p.crop_size if p.crop == "center" else p.size if p.resize in ("exact", "longer") else None
    wish = _pair(size, (None, None))
    usual = None if p.resize == "none" and p.crop != "center" else DEFAULT_SIDE
    return height or wish[0] or usual, width or wish[1] or usual


def _pair(size: Size, default: Any) -> tuple[Any, Any]:
    return default if size is None else (size, size) if isinstance(size, int) else size


def _pixels(plan: Resolved, image: Array) -> Array:
    """The image cropped, resized and in the model's channels: uint8 (h, w, c)."""
    p = plan.preprocess
    image = image[:, :, None] if image.ndim == 2 else image
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise InputDataError(f"expected a uint8 image (h, w, 1|3|4), found {image.dtype} {list(image.shape)}")
    if p.crop == "ratio":
        h, w = (max(1, round(n * p.crop_ratio)) for n in image.shape[:2])
        image = resample.center(image, h, w)
    image = _resized(plan, image)
    if p.crop == "center":
        image = resample.center(image, *_pair(p.crop_size, (plan.height, plan.width)), fill=p.pad_value)
    return _colored(image, plan.channels, p.color)


def _resized(plan: Resolved, image: Array) -> Array:
    p = plan.preprocess
    if p.resize == "none":
        return image
    ratio = p.size_ratio if p.crop == "center" else 1.0
    goal = _pair(p.size, (round((plan.height or 1) * ratio), round((plan.width or 1) * ratio)))
    h, w = image.shape[:2]

    def resized(height: int, width: int) -> Array:
        return resample.resize(image, height, width, p.interpolation, p.antialias, p.coordinates)

    if p.resize == "exact":
        return resized(*goal)
    if p.resize == "shorter":
        return resized(*resample.shorter_side(h, w, min(goal)))
    small = resized(*resample.fit_inside(h, w, goal))
    return resample.center(small, *goal, fill=p.pad_value)


def _colored(image: Array, channels: int, color: str) -> Array:
    """The channels that the model takes. Gray is ITU-R 601-2 luma in Pillow's integer arithmetic."""
    have = image.shape[2]
    if channels == 1 and have > 1:
        r, g, b = (image[:, :, c].astype(np.uint32) for c in range(3))
        return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    if channels >= 3 and have == 1:
        image = np.repeat(image, 3, axis=2)
    if channels == 3:
        image = image[:, :, :3]
    elif channels == 4 and image.shape[2] == 3:
        image = np.concatenate([image, np.full_like(image[:, :, :1], 255)], axis=2)
    return image[:, :, [2, 1, 0, 3][:channels]] if color == "bgr" else image


def _table(plan: Resolved) -> list[Array]:
    """What each of the 256 pixel values becomes, by channel: the affine formula in float64, rounded once."""
    codes = np.arange(256, dtype=np.float64)
    if plan.dtype == np.uint8 or plan.dtype == np.int8:
        shifted = codes - (128 if plan.dtype == np.int8 else 0)
        return [shifted.astype(plan.dtype)] * plan.channels
    p = plan.preprocess
    parts = [np.broadcast_to(np.asarray(f, np.float64), (plan.channels,)) for f in _affine_fields(p, plan.channels)]
    rows = [(codes * s + o - m) / d for s, o, m, d in zip(*parts, strict=True)]
    return [(np.rint(r) if plan.dtype.kind in "iu" else r).astype(plan.dtype) for r in rows]


def _affine_fields(p: Preprocess, channels: int) -> tuple[Any, ...]:
    p.affine(channels)  # raises where a field has another number of channels
    return p.scale, p.offset, p.mean, p.std


def _fits(item: Array, first: Array, spec: TensorInfo, name: str) -> None:
    """Raise where an item is not what the model declares, or not of the size of the others."""
    dims = dims_of(spec)
    declared = dims[1:] if dims is not None else (None,) * item.ndim
    if any(isinstance(d, int) and d != n for d, n in zip(declared, item.shape, strict=True)):
        raise InputDataError(
            f"{name}: after preprocessing it is {list(item.shape)}, but input {spec.name!r} takes "
            f"{describe_shape(declared)}; check resize, crop and layout"
        )
    if item.shape != first.shape:
        raise InputDataError(
            f"{name}: after preprocessing it is {list(item.shape)}, the first image {list(first.shape)}; images of one "
            "run must have one size: set resize or crop"
        )
