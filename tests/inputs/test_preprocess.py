"""Pixels to inputs: the affine formula, layouts, colours, geometry, dtypes, and what is left to the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fetafix.errors import ConfigError, InputDataError
from fetafix.inputs.preprocess import ASSUMED, PRESETS, Preprocess, apply, parse
from fetafix.report import TensorInfo
from tests.inputs.test_recipe import divisors, numbers


def spec(*shape: int | str | None, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(name="x", dtype=dtype, shape=list(shape))


def photo(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


NCHW = spec(1, 3, 16, 16)
NHWC = spec("N", 16, 16, 3)


@settings(max_examples=50, deadline=None)
@given(
    scale=numbers, offset=numbers, mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(divisors, divisors, divisors), dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_affine_formula(scale: float, offset: float, mean: tuple, std: tuple, dtype: str) -> None:
    image = photo(16, 16)
    found = apply(Preprocess(scale=scale, offset=offset, mean=mean, std=std), image, spec(1, 3, 16, 16, dtype=dtype))
    assert found.dtype == dtype and found.shape == (1, 3, 16, 16)
    for c in range(3):
        expected = ((image[:, :, c].astype(np.float64) * scale + offset - mean[c]) / std[c]).astype(dtype)
        assert np.array_equal(found[0, c], expected)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_both_layouts_hold_the_same_values(preset: str) -> None:
    several = [photo(20, 30, seed=i) for i in range(3)]
    first, second = apply(PRESETS[preset], several, NCHW), apply(PRESETS[preset], several, NHWC)
    assert first.shape == (3, 3, 16, 16) and second.shape == (3, 16, 16, 3)
    assert np.array_equal(first.transpose(0, 2, 3, 1), second)
    assert first.flags.c_contiguous and second.flags.c_contiguous
    assert np.array_equal(first[1:2], apply(PRESETS[preset], several[1], NCHW))


def test_torchvision_preset_as_its_transforms() -> None:
    """Resize(256) and CenterCrop(224) of torchvision on a PIL image, written out."""
    image = photo(300, 411)
    resized = Image.fromarray(image).resize((int(256 * 411 / 300), 256), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), round((256 - 224) / 2)
    cropped = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float64) / 255
    expected = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = apply(parse("torchvision"), image, spec("batch", 3, 224, 224))
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), expected, atol=1e-6)


def test_torchvision_preset_scales_with_the_model() -> None:
    image = photo(90, 80)
    by_hand = parse("keras-torch,resize=shorter,size=73,crop=center,crop_size=64")  # round(64 · 256 / 224) = 73
    assert np.array_equal(apply(parse("torchvision"), image, spec(1, 3, 64, 64)),
                          apply(by_hand, image, spec(1, 3, 64, 64)))  # fmt: skip


def test_bgr_reverses_the_channels_before_the_mean() -> None:
    image = photo(16, 16)
    rgb = apply(parse("raw,mean=[1,2,3]"), image, NCHW)
    bgr = apply(parse("raw,mean=[1,2,3],color=bgr"), image, NCHW)
    shift = np.asarray([1, 2, 3], np.float32)[:, None, None]
    assert np.array_equal(bgr[0] + shift, (rgb[0] + shift)[::-1])


def test_gray_is_pillows_luma() -> None:
    image = photo(16, 16)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    assert np.array_equal(apply(parse("raw"), image, spec(1, 1, 16, 16))[0, 0], expected)
    assert np.array_equal(apply(parse("raw,color=gray"), image, spec(1, 16, 16, 1))[0, :, :, 0], expected)


def test_channels_are_repeated_dropped_and_made_opaque() -> None:
    gray, rgba = photo(16, 16, 1), photo(16, 16, 4)
    assert np.array_equal(apply(parse("raw"), gray, NHWC)[0], np.repeat(gray, 3, axis=2))
    assert np.array_equal(apply(parse("raw"), gray[:, :, 0], NHWC), apply(parse("raw"), gray, NHWC))
    assert np.array_equal(apply(parse("raw"), rgba, NHWC)[0], rgba[:, :, :3])
    four = apply(parse("raw"), photo(16, 16), spec(1, 16, 16, 4))
    assert (four[0, :, :, 3] == 255).all()


def test_transposing_height_and_width() -> None:
    image = photo(16, 24)
    plain = apply(parse("raw"), image, spec(1, 3, 16, 24))
    swapped = apply(parse("raw,transpose_hw=true"), image, spec(1, 3, 24, 16))
    assert np.array_equal(swapped, plain.transpose(0, 1, 3, 2))
    swapped = apply(parse("raw,transpose_hw=true"), image, spec(1, 24, 16, 3))
    assert np.array_equal(swapped, plain.transpose(0, 3, 2, 1))


def test_quantised_inputs_get_pixel_codes_whatever_the_scale() -> None:
    image = photo(16, 16)
    for preset in PRESETS:
        if preset not in ("torchvision", "keras-caffe"):
            assert np.array_equal(apply(PRESETS[preset], image, spec(1, 16, 16, 3, dtype="uint8"))[0], image)
    codes = apply(parse("unit"), image, spec(1, 16, 16, 3, dtype="int8"))
    assert codes.dtype == np.int8 and np.array_equal(codes[0].astype(int) + 128, image)
    assert apply(parse("raw,dtype=uint8"), image, NHWC).dtype == np.uint8


def test_other_dtypes() -> None:
    image = photo(16, 16)
    assert apply(parse("unit"), image, spec(1, 3, 16, 16, dtype="float16")).dtype == np.float16
    whole = apply(parse("raw,dtype=int64,offset=-0.6"), image, NHWC)
    assert whole.dtype == np.int64 and np.array_equal(whole[0], np.rint(image - 0.6))


def test_letterbox_pads_around_the_largest_copy() -> None:
    image = np.full((10, 40, 3), 200, np.uint8)
    found = apply(parse("raw,resize=letterbox,pad_value=114"), image, NHWC)[0]
    assert (found[6:10] == 200).all() and (found[:6] == 114).all() and (found[10:] == 114).all()


def test_ratio_crop_comes_before_the_resize() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 255
    assert (apply(parse("raw,crop=ratio,crop_ratio=0.5"), image, NHWC) == 255).all()


def test_open_sizes() -> None:
    image = photo(50, 70)
    anything = spec("N", 3, "H", "W")
    assert apply(parse("raw"), image, anything).shape == (1, 3, 224, 224)
    assert apply(parse("raw,size=32x48"), image, anything).shape == (1, 3, 32, 48)
    assert apply(parse("raw,resize=none"), image, anything).shape == (1, 3, 50, 70)
    assert apply(parse("torchvision,crop_size=64,size=72"), image, anything).shape == (1, 3, 64, 64)
    unknown = TensorInfo(name="x", dtype="float32")
    assert apply(parse("raw,size=32"), image, unknown).shape == (1, 3, 32, 32)
    assert apply(parse("raw,size=32,layout=nhwc,color=gray"), image, unknown).shape == (1, 32, 32, 1)


def test_a_fixed_batch_is_filled_with_copies() -> None:
    found = apply(ASSUMED, [photo(16, 16, seed=i) for i in range(2)], spec(4, 3, 16, 16))
    assert found.shape == (2, 4, 3, 16, 16)
    assert (found == found[:, :1]).all() and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("text", "shape", "images", "error", "says"),
    [
        ("raw", (1, 10), [photo()], InputDataError, "takes no images"),
        ("raw", (1, 7, 16, 16), [photo()], InputDataError, "takes no images"),
        ("torchvision", (1, 1, 16, 16), [photo()], ConfigError, "mean has 3 values"),
        ("raw,color=gray", (1, 3, 16, 16), [photo()], ConfigError, "color=gray"),
        ("raw,color=bgr", (1, 1, 16, 16), [photo()], ConfigError, "color=bgr"),
        ("raw,resize=shorter", (1, 3, 16, 16), [photo()], InputDataError, "a.png: after preprocessing it is [3, 16,"),
        ("raw,layout=nhwc", (1, 3, 16, 16), [photo()], InputDataError, "check resize, crop and layout"),
        ("raw,resize=none", (1, 3, "h", "w"), [photo(), photo(9, 9)], InputDataError, "must have one size"),
        ("raw", (1, 3, 16, 16), [photo().astype(np.float32)], InputDataError, "expected a uint8 image"),
    ],
)
def test_what_does_not_fit_is_said(text: str, shape: tuple, images: list, error: type, says: str) -> None:
    with pytest.raises(error) as caught:
        apply(parse(text), images, spec(*shape), ["a.png", "b.png"])
    assert says in str(caught.value)
