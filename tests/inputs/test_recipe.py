"""Preprocessing as a record: presets, text forms, errors that name the nearest, differences."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.errors import ConfigError
from fetafix.inputs.recipe import PRESETS, Preprocess, diff, parse

sides = st.integers(1, 512)
sizes = st.none() | sides | st.tuples(sides, sides)
numbers = st.floats(-1e3, 1e3, allow_nan=False)
per_channel = numbers | st.tuples(numbers, numbers, numbers)
divisors = st.floats(1e-3, 1e3)
pipelines = st.builds(
    Preprocess,
    resize=st.sampled_from(["none", "exact", "shorter", "longer"]),
    size=sizes,
    size_ratio=st.floats(0.5, 2.0),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "area"]),
    antialias=st.booleans(),
    pad_value=st.integers(0, 255),
    crop=st.sampled_from(["none", "center", "ratio"]),
    crop_size=sizes,
    crop_ratio=st.floats(0.1, 1.0),
    color=st.sampled_from(["auto", "rgb", "bgr", "gray"]),
    layout=st.sampled_from(["auto", "nchw", "nhwc"]),
    scale=per_channel,
    offset=per_channel,
    mean=per_channel,
    std=divisors | st.tuples(divisors, divisors, divisors),
    dtype=st.sampled_from(["auto", "float32", "float16", "uint8", "int8", "int64"]),
    transpose_hw=st.booleans(),
)


@given(pipelines)
def test_parse_reads_back_what_as_dict_writes(pipeline: Preprocess) -> None:
    assert parse(pipeline.as_dict()) == pipeline
    assert parse(msgspec.json.decode(msgspec.json.encode(pipeline.as_dict()))) == pipeline


@given(pipelines, pipelines)
def test_a_difference_turns_one_pipeline_into_the_other(a: Preprocess, b: Preprocess) -> None:
    changes = diff(a, b)
    assert a.changed(changes) == b
    assert (not changes) == (a == b)
    assert all(getattr(a, k) != getattr(b, k) for k in changes)


@given(pipelines)
def test_affine_is_the_documented_formula(pipeline: Preprocess) -> None:
    gain, bias = pipeline.affine(3)
    for c in range(3):
        scale, offset, mean, std = (
            v[c] if isinstance(v, tuple) else v
            for v in (pipeline.scale, pipeline.offset, pipeline.mean, pipeline.std)
        )
        assert gain[c] * 200 + bias[c] == pytest.approx((200 * scale + offset - mean) / std, rel=1e-9, abs=1e-6)


def test_text_sets_fields_on_top_of_a_preset() -> None:
    pipeline = parse("torchvision, crop=none, size=200x300, mean=[0.5,1/4,0], resize=squash, antialias=no")
    assert (pipeline.crop, pipeline.size, pipeline.resize, pipeline.antialias) == ("none", (200, 300), "exact", False)
    assert pipeline.mean == (0.5, 0.25, 0)
    assert pipeline.std == (0.229, 0.224, 0.225)


def test_forms_that_mean_the_same() -> None:
    assert parse("unit,offset=-0.5") == parse({"preset": "unit", "offset": -0.5}) == parse("scale=1/255,offset=-0.5")
    assert parse("raw,size=none") == parse("raw") == Preprocess()
    assert parse("raw,resize=letterbox,size=[4,5]").size == (4, 5)
    assert parse(PRESETS["torchvision"]) is PRESETS["torchvision"]


@pytest.mark.parametrize(
    ("name", "pixel", "expected"),
    [
        ("raw", (0, 128, 255), (0, 128, 255)),
        ("unit", (0, 51, 255), (0, 0.2, 1)),
        ("keras-tf", (0, 127.5, 255), (-1, 0, 1)),
        ("keras-caffe", (103.939, 116.779, 123.68), (0, 0, 0)),
        ("keras-torch", (0.485 * 255, 0.456 * 255, 255), (0, 0, (1 - 0.406) / 0.225)),
        ("torchvision", (255, 0.456 * 255, 0.406 * 255), ((1 - 0.485) / 0.229, 0, 0)),
        ("ultraface", (127, 255, -1), (0, 1, -1)),
    ],
)
def test_presets_have_the_values_of_their_frameworks(name: str, pixel: tuple, expected: tuple) -> None:
    gain, bias = PRESETS[name].affine(3)
    assert [g * p + b for g, p, b in zip(gain, pixel, bias, strict=True)] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("torchvison", "did you mean 'torchvision'"),
        ("nonsense", "known: raw"),
        ("unit,sclae=2", "unknown preprocessing key 'sclae'; did you mean 'scale'"),
        ({"colour": "rgb"}, "did you mean 'color'"),
        ("unit,interpolation=bilinar", "did you mean 'bilinear'"),
        ("unit,scale", "expected key=value, found 'scale'"),
        ("unit,scale=much", "scale"),
        ("unit,size=224xabc", "size"),
        ("unit,antialias=perhaps", "antialias"),
        ("", "presets: raw"),
        ({"std": 0}, "std divides"),
        ({"std": [1, 0, 1]}, "std divides"),
        ({"size": 0}, "at least 1"),
        ({"size": [3, -1]}, "at least 1"),
        ({"mean": float("nan")}, "finite"),
        ({"mean": []}, "finite number, or one a channel"),
        ({"mean": None}, "mean"),
        ({"pad_value": 300}, "0 to 255"),
        ({"crop_ratio": 1.5}, "crop_ratio"),
        ({"preset": ["unit"]}, "unknown preprocessing preset"),
    ],
)
def test_a_mistake_is_named(given: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(given)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_channels_must_suit() -> None:
    with pytest.raises(ConfigError, match="mean has 3 values, but the model's input has 1"):
        PRESETS["torchvision"].affine(1)


def test_describe_names_what_is_done() -> None:
    assert Preprocess().describe() == "raw pixels, resized to the model's size"
    text = PRESETS["torchvision"].describe()
    assert "resize=shorter" in text and "crop=center" in text and "mean=[0.485, 0.456, 0.406]" in text
