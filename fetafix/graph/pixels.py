"""Ranges that image classifiers are trained on, and affine maps between them by name.

A range says how a value y comes from a 0…255 pixel u, by channel: y = gain · u + bias. The means and standard
deviations are those that torchvision, Keras (tf and caffe modes) and the usual CIFAR and MNIST recipes publish, in
RGB order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetafix.ir import Array

_FIELDS = ("scale", "offset", "mean", "std")


@dataclass(frozen=True)
class Range:
    """A named normalisation y = (u·scale + offset − mean) / std; `fields` are those of a configuration."""

    name: str
    scale: float = 1.0
    offset: float = 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def affine(self, channels: int) -> tuple[Array, Array] | None:
        """(gain, bias) by channel, float64; None where the range is for another number of channels."""
        if any(len(v) not in (1, channels) for v in (self.mean, self.std)):
            return None
        mean, std = (np.broadcast_to(np.asarray(v, np.float64), channels) for v in (self.mean, self.std))
        return self.scale / std, (self.offset - mean) / std

    @property
    def by_channel(self) -> bool:
        """Whether it is a mean/std normalisation rather than a mere range."""
        return len(self.mean) > 1 or len(self.std) > 1 or self.name.startswith("MNIST")

    @property
    def fields(self) -> dict[str, Any]:
        """The configuration fields that make it."""
        mean, std = (v[0] if len(v) == 1 else v for v in (self.mean, self.std))
        return {"scale": self.scale, "offset": self.offset, "mean": mean, "std": std}


def _means(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Range:
    return Range(name, 1 / 255, 0.0, mean, std)


_CAFFE = (103.939, 116.779, 123.68)
RANGES = (
    Range("0…255"), Range("0…1", 1 / 255), Range("−1…1", 1 / 127.5, -1.0), Range("−0.5…0.5", 1 / 255, -0.5),
    Range("(x − 127) / 128", 1.0, 0.0, (127.0,), (128.0,)), Range("−128…127", 1.0, -128.0),
    _means("ImageNet mean and std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    _means("ImageNet mean and std in BGR order", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
    _means("ImageNet mean without std", (0.485, 0.456, 0.406), (1.0,)),
    _means("ImageNet std without mean", (0.0,), (0.229, 0.224, 0.225)),
    Range("caffe means", mean=_CAFFE), Range("caffe means in RGB order", mean=_CAFFE[::-1]),
    _means("CIFAR-10 mean and std", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    _means("CIFAR-10 mean and std (2023)", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
    _means("MNIST mean and std", (0.1307,), (0.3081,)),
)


@dataclass(frozen=True)
class Naming:
    """An affine map between two named ranges; gain and bias are the exact ones."""

    given: str
    wanted: str
    gain: Array
    bias: Array
    by_channel: bool


def name_map(gain: Array, bias: Array, low: float, high: float, tolerance: float = 2e-3) -> Naming | None:
    """The pair of ranges whose map is y = gain·x + bias, x from `low` to `high`; None where none fits in `tolerance`.

    The given range must be able to hold values from low to high and be used by them to a quarter at least; infinite
    ones leave it open.
    """
    channels = len(gain)
    for given in RANGES:
        start = given.affine(channels)
        if start is None:
            continue
        ends = (float(start[1].min()), float((start[0] * 255 + start[1]).max()))
        width = ends[1] - ends[0]
        known = np.isfinite(high - low)
        if known and (low < ends[0] - 0.02 * width or high > ends[1] + 0.02 * width or high - low < 0.25 * width):
            continue
        for wanted in RANGES:
            end = wanted.affine(channels)
            if end is None or wanted is given:
                continue
            a = end[0] / start[0]
            b = end[1] - a * start[1]
            span = tolerance * np.abs(end[0] * 255).max()
            if np.all(np.abs(a - gain) <= tolerance * np.abs(a)) and np.all(np.abs(b - bias) <= span):
                return Naming(given.name, wanted.name, a, b, given.by_channel or wanted.by_channel)
    return None


def affine_of(config: Mapping[str, Any], channels: int) -> tuple[Array, Array]:
    """(gain, bias) on 0…255 pixels of a preprocessing configuration; see `fetafix.inputs.recipe`."""
    values = (np.broadcast_to(np.asarray(config.get(k, d), np.float64), channels) for k, d in
              zip(_FIELDS, (1.0, 0.0, 0.0, 1.0), strict=True))
    scale, offset, mean, std = values
    return scale / std, (offset - mean) / std


def config_for(gain: Array, bias: Array, known: Mapping[str, Any] | None, tolerance: float = 2e-3) -> dict[str, Any]:
    """Configuration fields that make y = gain·u + bias of pixels: those of `known`, of a named range, or plain ones."""
    span = tolerance * max(np.abs(gain * 255).max(), 1e-12)

    def fits(made: tuple[Array, Array] | None) -> bool:
        return made is not None and bool(
            np.all(np.abs(made[0] - gain) <= tolerance * np.abs(gain)) and np.all(np.abs(made[1] - bias) <= span))

    if known is not None and fits(affine_of(known, len(gain))):
        return {k: known.get(k, d) for k, d in zip(_FIELDS, (1.0, 0.0, 0.0, 1.0), strict=True)}
    for range_ in RANGES:
        if fits(range_.affine(len(gain))):
            return range_.fields
    plain = [v[0] if np.allclose(v, v[0], rtol=1e-6) else tuple(v) for v in (gain.tolist(), bias.tolist())]
    return {"scale": plain[0], "offset": plain[1], "mean": 0.0, "std": 1.0}


def reprocessed(x: Array, old: Mapping[str, Any], new: Mapping[str, Any]) -> Array:
    """An image batch that was prepared by one configuration as another would have prepared it; sizes are not touched.

    x: float, (N, C, H, W) or (N, H, W, C) with at most four channels; anything else is returned as it is.
    """
    axis = next((a for a in (1, 3) if x.ndim == 4 and x.shape[a] <= 4), None)
    if axis is None or not np.issubdtype(x.dtype, np.floating):
        return x
    channels, shape = x.shape[axis], [-1 if a == axis else 1 for a in range(4)]
    (gain, bias), (gain_, bias_) = affine_of(old, channels), affine_of(new, channels)
    u = (x - bias.reshape(shape)) / gain.reshape(shape)
    if (old.get("color") == "bgr") != (new.get("color") == "bgr"):
        u = np.flip(u, axis)
    if bool(old.get("transpose_hw")) != bool(new.get("transpose_hw")):
        u = np.swapaxes(u, *(a for a in (1, 2, 3) if a != axis))
    return np.ascontiguousarray(u * gain_.reshape(shape) + bias_.reshape(shape), x.dtype)
