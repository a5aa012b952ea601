"""Samples as small pictures: from files, and from tensors that look like images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fetafix.exhibiting.pictures import SIDE, encoded, pixels
from fetafix.ir import Array


def decoded(url: str) -> tuple[str, Array]:
    head, _, content = url.partition(",")
    return head, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize(("shape", "seen"), [
    ((3, 16, 20), (16, 20, 3)), ((1, 16, 20), (16, 20, 1)), ((4, 8, 8), (8, 8, 4)), ((16, 20, 3), (16, 20, 3)),
    ((1, 16, 20, 3), (16, 20, 3)), ((1, 3, 9, 9), (9, 9, 3)),
    ((16, 20), None), ((5, 16, 20), None), ((3, 7, 20), None), ((2, 3, 16, 16), None), ((768,), None),
])  # fmt: skip
def test_what_looks_like_an_image(shape: tuple[int, ...], seen: tuple[int, ...] | None) -> None:
    found = pixels(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert (found is None) == (seen is None)
    assert found is None or (found.shape == seen and found.dtype == np.uint8)


def test_values_are_stretched_over_their_range() -> None:
    item = np.linspace(-2, 3, 3 * 64, dtype=np.float32).reshape(3, 8, 8)
    found = pixels(item)
    assert found is not None and (found.min(), found.max()) == (0, 255)
    np.testing.assert_allclose(found, ((item + 2) / 5 * 255).transpose(1, 2, 0), atol=1)


def test_what_is_not_finite_does_no_harm() -> None:
    item = np.ones((8, 8, 3), np.float32)
    item[0, 0], item[0, 1], item[0, 2] = np.nan, np.inf, -np.inf
    item[1] = 3
    found = pixels(item)
    assert found is not None and found[0, :4, 0].tolist() == [0, 255, 0, 0] and (found[1] == 255).all()
    constant = pixels(np.full((8, 8, 1), 7.0))
    assert constant is not None and (constant == 0).all()


def test_bytes_stay_as_they_are() -> None:
    item = np.full((8, 8, 3), 100, np.uint8)
    assert np.array_equal(pixels(item), item) and pixels(np.full((8, 8, 3), "x")) is None  # type: ignore[arg-type]


def test_small_pictures_are_kept_exactly() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    head, seen = decoded(encoded(image))
    assert head == "data:image/png;base64" and np.array_equal(seen, image)


def test_large_ones_are_shrunk_and_small() -> None:
    rng = np.random.default_rng(2)
    url = encoded(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    head, seen = decoded(url)
    assert head == "data:image/jpeg;base64" and seen.shape == (SIDE * 3 // 4, SIDE, 3) and len(url) < 30_000


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels(channels: int) -> None:
    _, seen = decoded(encoded(np.full((9, 12, channels), 50, np.uint8)))
    assert seen.shape == ((9, 12) if channels == 1 else (9, 12, 3)) and (seen == 50).all()
