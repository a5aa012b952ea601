"""Resampling against slow formulas written out pixel by pixel, and against Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fetafix.inputs import resample

images = st.builds(
    lambda h, w, c, seed: np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8),
    st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]), st.integers(0, 99),
)  # fmt: skip
side = st.integers(1, 15)


def keys(x: float, a: float = -0.75) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def lanczos(x: float) -> float:
    if abs(x) >= 3:
        return 0.0
    return 1.0 if x == 0 else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2


KERNELS = {"bilinear": (1, lambda x: max(0.0, 1 - abs(x))), "bicubic": (2, keys), "lanczos": (3, lanczos)}


def slow(image: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    """Half-pixel sampling with repeated borders: every output pixel is a weighted sum over its neighbourhood."""
    h, w, channels = image.shape
    reach, kernel = KERNELS[name]
    out = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * h / height - 0.5, (j + 0.5) * w / width - 0.5
            total = 0.0
            for m in range(math.floor(y) - reach + 1, math.floor(y) + reach + 1):
                for n in range(math.floor(x) - reach + 1, math.floor(x) + reach + 1):
                    weight = kernel(y - m) * kernel(x - n)
                    total += weight
                    out[i, j] += weight * image[min(max(m, 0), h - 1), min(max(n, 0), w - 1)]
            out[i, j] /= total
    return out


@pytest.mark.parametrize("name", sorted(KERNELS))
@settings(max_examples=25, deadline=None)
@given(image=images, height=side, width=side)
def test_without_antialias_as_the_slow_formula(name: str, image: np.ndarray, height: int, width: int) -> None:
    expected = slow(image, height, width, name)
    found = resample.resize(image, height, width, name, antialias=False)  # type: ignore[arg-type]
    assert found.dtype == np.uint8 and found.shape == (height, width, image.shape[2])
    twice = name == "bilinear" and height >= image.shape[0] and width >= image.shape[1]  # Pillow rounds after each axis
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= (1.0 if twice else 0.5) + 1e-9


@settings(max_examples=25, deadline=None)
@given(image=images, height=side, width=side)
def test_nearest_takes_the_pixel_under_the_centre(image: np.ndarray, height: int, width: int) -> None:
    found = resample.resize(image, height, width, "nearest")
    for i in range(height):
        for j in range(width):
            y, x = int((i + 0.5) * image.shape[0] / height), int((j + 0.5) * image.shape[1] / width)
            assert np.array_equal(found[i, j], image[y, x])


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
def test_with_antialias_as_pillow(name: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((17, 11), getattr(Image.Resampling, name.upper())))
    assert np.array_equal(resample.resize(image, 11, 17, name), expected)  # type: ignore[arg-type]


def test_antialias_makes_a_difference_when_shrinking() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    soft = resample.resize(image, 16, 16, "bilinear", True)
    sharp = resample.resize(image, 16, 16, "bilinear", False)
    assert soft.std() < 0.6 * sharp.std()


def test_area_averages_blocks() -> None:
    image = np.random.default_rng(2).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    blocks = image.reshape(4, 2, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(resample.resize(image, 4, 4, "area") - blocks).max() <= 1.0  # Pillow rounds once an axis
    larger = resample.resize(image, 16, 24, "area")
    assert np.array_equal(larger, resample.resize(image, 16, 24, "bilinear", False))


def test_four_channels_are_not_mixed() -> None:
    image = np.random.default_rng(3).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    whole = resample.resize(image, 5, 5, "bilinear")
    for c in range(4):
        assert np.array_equal(whole[:, :, c : c + 1], resample.resize(image[:, :, c : c + 1], 5, 5, "bilinear"))


@given(h=st.integers(1, 900), w=st.integers(1, 900), size=st.integers(1, 300))
def test_shorter_side_keeps_the_aspect(h: int, w: int, size: int) -> None:
    height, width = resample.shorter_side(h, w, size)
    assert min(height, width) == size
    assert max(height, width) == max(size, int(size * max(h, w) / min(h, w)))


@given(h=st.integers(1, 900), w=st.integers(1, 900), box=st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_the_largest_copy_that_fits(h: int, w: int, box: tuple[int, int]) -> None:
    height, width = resample.fit_inside(h, w, box)
    assert 1 <= height <= box[0] and 1 <= width <= box[1]
    assert height == box[0] or width == box[1]


def test_center_crops_and_pads() -> None:
    image = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7, 1)
    assert np.array_equal(resample.center(image, 3, 3), image[1:4, 2:5])
    padded = resample.center(image, 8, 3, fill=9)
    assert padded.shape == (8, 3, 1)
    assert np.array_equal(padded[1:6], image[:, 2:5]) and (padded[0] == 9).all() and (padded[6:] == 9).all()
