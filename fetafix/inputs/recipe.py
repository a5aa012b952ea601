"""The preprocessing of one model as a typed record: `Preprocess`, its named presets, and how text becomes one.

The steps, in this order, on the 0..255 RGB pixels of one image, which `fetafix.inputs.decoding` makes of its file
(`orientation`, `alpha`, `gray16`, `palette`, `cmyk`):

1. crop "ratio": the central `crop_ratio` of the image's height and width (TensorFlow's `central_crop`);
2. resize: "exact" to (height, width) whatever the aspect ("squash"); "shorter": the shorter side to `size`, aspect
   kept; "longer": the largest copy that fits into (height, width), aspect kept, padded around with `pad_value`
   ("letterbox"); "none";
3. crop "center" to `crop_size`, padded with `pad_value` where the image is smaller;
4. color: channels as RGB, BGR or gray (ITU-R 601-2 luma); "auto" is gray for a model with one channel, else RGB;
5. y = (x · scale + offset − mean) / std, by channel in the order in which the model gets them. Not for uint8 and int8:
   a quantised input carries its own scale, so its codes are the pixels as they are (uint8) or minus 128 (int8);
6. dtype, layout, and with `transpose_hw` height and width swapped.

Sizes that are None are the model's own; where a centre crop follows, `size_ratio` then enlarges what step 2 aims at
(256/224 and a centre crop is what torchvision's classifiers expect). `fetafix.inputs.resample` describes resampling.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from fetafix.errors import ConfigError
from fetafix.inputs.decoding import Decoding

Resize = Literal["none", "exact", "shorter", "longer"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "area"]
Coordinates = Literal["half_pixel", "asymmetric", "align_corners"]
Size = int | tuple[int, int] | None
PerChannel = float | tuple[float, ...]

_SIZES = ("size", "crop_size")
_ALIASES = {"resize": {"squash": "exact", "letterbox": "longer"}}


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one model wants its images; the module docstring says what each field does. Sizes are (height, width).

    Raises ValueError (msgspec.ValidationError when decoded) for sizes below 1, a zero std or ratios outside of (0, 16].
    """

    orientation: Literal["exif", "stored"] = "exif"
    alpha: Literal["drop", "black", "white"] = "drop"
    gray16: Literal["scale", "clip"] = "scale"
    palette: Literal["colors", "codes"] = "colors"
    cmyk: Literal["convert", "inverted"] = "convert"
    resize: Resize = "exact"
    size: Size = None
    size_ratio: float = 1.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    coordinates: Coordinates = "half_pixel"
    pad_value: int = 0
    crop: Literal["none", "center", "ratio"] = "none"
    crop_size: Size = None
    crop_ratio: float = 0.875
    color: Literal["auto", "rgb", "bgr", "gray"] = "auto"
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    scale: PerChannel = 1.0
    offset: PerChannel = 0.0
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    dtype: Literal["auto", "float32", "float16", "uint8", "int8", "int64"] = "auto"
    transpose_hw: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no image survives."""
        for field in _SIZES:
            if any(n is not None and n < 1 for n in _tuple(getattr(self, field))):
                raise ValueError(f"{field} must be at least 1, found {getattr(self, field)}")
        for field in ("scale", "offset", "mean", "std"):
            values = _tuple(getattr(self, field))
            if not values or not all(map(math.isfinite, values)):
                raise ValueError(f"{field} must be a finite number, or one a channel, found {list(values)}")
        if 0.0 in _tuple(self.std):
            raise ValueError("std divides and must not be 0")
        if not 0 < self.size_ratio <= 16 or not 0 < self.crop_ratio <= 1:
            raise ValueError("size_ratio must be in (0, 16] and crop_ratio in (0, 1]")
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"pad_value is a pixel value from 0 to 255, found {self.pad_value}")

    @property
    def decoding(self) -> Decoding:
        """How image files become pixels."""
        return Decoding(self.orientation, self.alpha, self.gray16, self.palette, self.cmyk)

    def affine(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(gain, bias) by channel such that y = gain · x + bias on 0..255 pixels.

        Raises ConfigError where a field has another number of channels.
        """
        parts = (self._channels(f, channels) for f in ("scale", "offset", "mean", "std"))
        rows = list(zip(*parts, strict=True))
        return tuple(s / d for s, _, _, d in rows), tuple((o - m) / d for _, o, m, d in rows)

    def as_dict(self) -> dict[str, Any]:
        """Every field as plain data; `parse` reads it back."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def changed(self, changes: Mapping[str, Any]) -> Preprocess:
        """A copy with some fields set, as an edit of the preprocessing proposes them. Raises ConfigError as `parse`."""
        return parse({**self.as_dict(), **changes})

    def describe(self) -> str:
        """One line for people: what differs from raw pixels, in the order in which it is done."""
        parts = [f"{k}={_text(v)}" for k, v in diff(Preprocess(), self).items()]
        return ", ".join(parts) if parts else "raw pixels, resized to the model's size"

    def _channels(self, field: str, channels: int) -> tuple[float, ...]:
        values = _tuple(getattr(self, field))
        if len(values) not in (1, channels):
            raise ConfigError(
                f"preprocessing: {field} has {len(values)} values, but the model's input has {channels} channel(s); "
                f"give {channels} or one for all"
            )
        return values * channels if len(values) == 1 else values


_IMAGENET: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

PRESETS: Mapping[str, Preprocess] = {
    "raw": Preprocess(),
    "unit": Preprocess(scale=1 / 255),
    "torchvision": Preprocess(resize="shorter", size_ratio=256 / 224, crop="center", **_IMAGENET),
    "keras-tf": Preprocess(scale=1 / 127.5, offset=-1.0),
    "keras-caffe": Preprocess(color="bgr", mean=(103.939, 116.779, 123.68)),
    "keras-torch": Preprocess(**_IMAGENET),
    "ultraface": Preprocess(antialias=False, mean=127.0, std=128.0),
}


def parse(given: str | Mapping[str, Any] | Preprocess) -> Preprocess:
    """A pipeline from a preset's name, "preset,key=value,…", or a mapping with an optional key `preset`.

    Lists are written [a,b,c], sizes also 224x224, fractions 1/255, the model's own size none. Raises ConfigError for an
    unknown preset or key (naming the nearest) and for a value that does not fit.
    """
    if isinstance(given, Preprocess):
        return given
    fields = _from_text(given) if isinstance(given, str) else {str(k): v for k, v in given.items()}
    preset = str(fields.pop("preset", "raw"))
    if preset not in PRESETS:
        raise ConfigError(f"unknown preprocessing preset {preset!r}{nearest(preset, PRESETS)}")
    known = Preprocess.__struct_fields__
    for key in fields:
        if key not in known:
            raise ConfigError(f"unknown preprocessing key {key!r}{nearest(key, known)}")
    merged = {**PRESETS[preset].as_dict(), **{k: _value(k, v) for k, v in fields.items()}}
    try:
        return msgspec.convert(merged, Preprocess)
    except msgspec.ValidationError as error:
        raise ConfigError(f"preprocessing: {error}{_allowed(str(error))}") from error


def diff(a: Preprocess, b: Preprocess) -> dict[str, Any]:
    """The fields of `b` that differ from `a`: `a.changed(diff(a, b)) == b`."""
    old, new = a.as_dict(), b.as_dict()
    return {k: v for k, v in new.items() if old[k] != v}


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: "; did you mean …?", or the known names where nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else "the model's" if value is None else str(value).lower()


def _from_text(text: str) -> dict[str, Any]:
    """Split at the commas outside of brackets; a first part without "=" is the preset."""
    parts = [p.strip() for p in re.split(r",(?![^\[(]*[\])])", text) if p.strip()]
    if not parts:
        raise ConfigError(f"the preprocessing is empty; presets: {', '.join(PRESETS)}")
    fields: dict[str, Any] = {} if "=" in parts[0] else {"preset": parts.pop(0)}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"preprocessing: expected key=value, found {part!r}")
        fields[key.strip()] = value.strip()
    return fields


def _value(key: str, value: Any) -> Any:
    """The typed value of a field that may be written as text."""
    if isinstance(value, str):
        text = value.strip().lower()
        if key in _SIZES:
            return None if text in ("none", "auto", "null") else _numbers(text.replace("x", ","))
        if key in ("size_ratio", "crop_ratio", "pad_value", "scale", "offset", "mean", "std"):
            return _numbers(text)
        if key in ("antialias", "transpose_hw"):
            return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text, value)
        return _ALIASES.get(key, {}).get(text, text)
    if isinstance(value, tuple | list):
        return [_value(key, v) for v in value]
    return value


def _numbers(text: str) -> Any:
    """A number, a fraction, or a list of them; the text itself where it is neither, for msgspec to refuse."""
    inner = text.strip("[]() ")
    if "," in inner:
        return [_numbers(part) for part in inner.split(",")]
    match = re.fullmatch(r"([^/]+)/([^/]+)", inner)
    try:
        if match:
            return float(match[1]) / float(match[2])
        return int(inner) if re.fullmatch(r"[+-]?\d+", inner) else float(inner)
    except (ValueError, ZeroDivisionError):
        return text


def _allowed(message: str) -> str:
    """The values that a field allows, for msgspec's "Invalid enum value 'x' - at `$.field`"."""
    found = re.search(r"Invalid enum value '(.*)' - at `\$\.(\w+)`", message)
    if not found:
        return ""
    info = next(f for f in msgspec.structs.fields(Preprocess) if f.name == found[2])
    return nearest(found[1], [str(v) for v in getattr(info.type, "__args__", ())])
