"""Resizing and cropping of uint8 images (height, width, channels).

With antialias the kernels are Pillow's: their support grows with the reduction, bicubic has a = −0.5 (Pillow,
`src/libImaging/Resample.c`); torchvision and TensorFlow's `antialias=True` do the same up to rounding. Without, the
kernel samples a few source pixels around the half-pixel centre, x = (i + ½) · in/out − ½, as OpenCV's INTER_LINEAR,
TensorFlow 2 and torch's `align_corners=False` do; bicubic then has a = −0.75 (OpenCV, torch) and borders are repeated.
Other coordinates are "asymmetric", x = i · in/out (TensorFlow 1, Caffe), and "align_corners",
x = i · (in − 1)/(out − 1) (TensorFlow 1, old torch); nearest then takes the floor and the nearest pixel. With them
nothing is antialiased.
"box" averages (without antialias it is nearest); "area" averages when shrinking and is bilinear when enlarging, as
OpenCV's INTER_AREA. Bilinear enlarging is the same with antialias and without. Nearest takes the pixel at
floor((i + ½) · in/out), as Pillow and TensorFlow 2. Results are rounded to uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fetafix.inputs.recipe import Coordinates, Interpolation
from fetafix.ir import Array


def resize(
    image: Array, height: int, width: int, interpolation: Interpolation, antialias: bool = True,
    coordinates: Coordinates = "half_pixel",
) -> Array:  # fmt: skip
    """A uint8 image (h, w, c) at another size, (height, width, c)."""
    if image.shape[:2] == (height, width):
        return image
    if coordinates != "half_pixel":
        return _sampled(image, height, width, "bilinear" if interpolation == "area" else interpolation, coordinates)
    if interpolation == "area":
        shrinks = height <= image.shape[0] and width <= image.shape[1]
        interpolation, antialias = ("box", True) if shrinks else ("bilinear", False)
    grows = height >= image.shape[0] and width >= image.shape[1]
    if (antialias or (interpolation == "bilinear" and grows)) and interpolation != "nearest":
        return _pillow(image, height, width, interpolation)
    return _sampled(image, height, width, interpolation)


def shorter_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `size`; the longer is truncated, as torchvision's Resize does."""
    if height <= width:
        return size, max(1, int(size * width / height))
    return max(1, int(size * height / width)), size


def fit_inside(height: int, width: int, box: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of this aspect inside of `box`."""
    ratio = min(box[0] / height, box[1] / width)
    return (min(box[0], max(1, round(height * ratio))), min(box[1], max(1, round(width * ratio))))


def center(image: Array, height: int, width: int, fill: int = 0) -> Array:
    """The central (height, width) of an image, padded with `fill` where it is smaller.

    Offsets as torchvision's CenterCrop: round((h − height) / 2) when cropping, floor of half the gap when padding.
    """
    h, w = image.shape[:2]
    if h < height or w < width:
        gaps = max(height - h, 0), max(width - w, 0)
        pads = [(g // 2, g - g // 2) for g in gaps]
        image = np.pad(image, [*pads, (0, 0)], constant_values=fill)
        h, w = image.shape[:2]
    top, left = round((h - height) / 2), round((w - width) / 2)
    return image[top : top + height, left : left + width]


def _pillow(image: Array, height: int, width: int, interpolation: str) -> Array:
    from PIL import Image

    kernel = {
        "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX,
    }[interpolation]  # fmt: skip
    # Four channels go one by one: Pillow would weight the colours of RGBA by their alpha.
    planes = [image] if image.shape[2] == 3 else [image[:, :, c] for c in range(image.shape[2])]
    done = [np.asarray(Image.fromarray(np.ascontiguousarray(p)).resize((width, height), kernel)) for p in planes]
    return done[0] if image.shape[2] == 3 else np.stack(done, axis=2)


def _cubic(x: Array, a: float = -0.75) -> Array:
    """Keys' cubic convolution kernel (1981) with parameter a."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


_KERNELS: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "bilinear": (1, lambda x: np.maximum(0.0, 1 - np.abs(x))),
    "bicubic": (2, _cubic),
    "lanczos": (3, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}


def stretched(values: Array, axis: int, size: int) -> Array:
    """Floats at another size along one axis, bilinearly at half-pixel centres, without antialias."""
    if values.shape[axis] == size:
        return values
    index, weight = _taps(values.shape[axis], size, "bilinear", "half_pixel")
    shape = [size if i == axis else 1 for i in range(values.ndim)]
    made = sum(np.take(values, i, axis) * w.reshape(shape) for i, w in zip(index, weight, strict=True))
    return np.asarray(made, values.dtype)


def _sampled(
    image: Array, height: int, width: int, interpolation: str, coordinates: Coordinates = "half_pixel"
) -> Array:  # fmt: skip
    if interpolation in ("nearest", "box"):
        rows, cols = (_nearest(n, m, coordinates) for n, m in zip(image.shape, (height, width), strict=False))
        return image[rows[:, None], cols]
    values = image.astype(np.float64)
    for axis, size in enumerate((height, width)):
        index, weight = _taps(image.shape[axis], size, interpolation, coordinates)
        shape = (1, size, 1) if axis else (size, 1, 1)
        values = sum(np.take(values, i, axis) * w.reshape(shape) for i, w in zip(index, weight, strict=True))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _centres(old: int, new: int, coordinates: Coordinates) -> Array:
    """Where the target's pixels lie in the source."""
    at = np.arange(new)
    if coordinates == "asymmetric":
        return at * (old / new)
    if coordinates == "align_corners":
        return at * ((old - 1) / max(new - 1, 1))
    return (at + 0.5) * (old / new) - 0.5


def _nearest(old: int, new: int, coordinates: Coordinates) -> Array:
    if coordinates == "half_pixel":
        pick = (np.arange(new) + 0.5) * (old / new)
    else:
        pick = np.floor(_centres(old, new, coordinates) + 0.5 * (coordinates == "align_corners"))
    return np.clip(pick.astype(np.intp), 0, old - 1)


def _taps(old: int, new: int, interpolation: str, coordinates: Coordinates) -> tuple[Array, Array]:
    """Indices and weights, (taps, new) each, of the source pixels that make one target pixel."""
    support, kernel = _KERNELS[interpolation]
    centre = _centres(old, new, coordinates)
    first = [math.floor(c) - support + 1 for c in centre]
    index = np.asarray(first)[None, :] + np.arange(2 * support)[:, None]
    weight = kernel(centre - index)
    return np.clip(index, 0, old - 1), weight / weight.sum(axis=0)
