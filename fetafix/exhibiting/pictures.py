"""A sample as a small picture in a data URL: from its image file, or from a tensor that looks like an image."""

from __future__ import annotations

import base64
import io

import numpy as np

from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.session import Session

SIDE = 160  # pixels
_SMALLEST = 8
_LOSSLESS = 6000  # bytes up to which a picture stays as it is
_CHANNELS = (1, 3, 4)


def picture(session: Session, position: int) -> str:
    """The sample at a position as a data URL of at most SIDE pixels a side; "" where it is no image."""
    drawn = session.samplings
    files = getattr(drawn.data, "files", None)
    if files is not None:
        index = drawn.source.indices[position]
        pixels = files.load([index]).get(index)
        return encoded(pixels) if pixels is not None else ""
    item = _image(drawn.source, position)
    return "" if item is None else encoded(item)


def _image(samples: SampleSet, position: int) -> Array | None:
    """The pixels of the first input that looks like an image: uint8 (height, width, channels)."""
    first = [samples.images] if samples.images else []
    for name in dict.fromkeys([*first, *samples.arrays]):
        found = pixels(np.asarray(samples.arrays[name][position]))
        if found is not None:
            return found
    return None


def pixels(item: Array) -> Array | None:
    """A tensor (C, H, W) or (H, W, C), perhaps with a leading 1, as uint8 (H, W, C); None where it is no image.

    C is 1, 3 or 4, and both sides are at least 8. Other types than uint8 are stretched from the least to the greatest
    of their finite values.
    """
    if item.ndim == 4 and item.shape[0] == 1:
        item = item[0]
    if item.ndim != 3 or item.dtype.kind not in "fiuV":
        return None
    first = item.shape[0] in _CHANNELS and min(item.shape[1:]) >= _SMALLEST
    last = item.shape[2] in _CHANNELS and min(item.shape[:2]) >= _SMALLEST
    if not first and not last:
        return None
    turned = item.transpose(1, 2, 0) if first else item
    return turned if turned.dtype == np.uint8 else _stretched(turned.astype(np.float64))


def _stretched(values: Array) -> Array:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.clip(np.nan_to_num((values - low) * scale, nan=0.0, posinf=255.0, neginf=0.0), 0, 255).astype(np.uint8)


def encoded(pixels: Array) -> str:
    """Pixels (H, W, C), uint8, as a data URL; shrunk to SIDE where they are larger, of four channels the first three.

    PNG where that is small, else JPEG.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]))
    image.thumbnail((SIDE, SIDE))
    lossless = _bytes(image, "PNG", optimize=True)
    if len(lossless) <= _LOSSLESS:
        return _url("png", lossless)
    return min(_url("png", lossless), _url("jpeg", _bytes(image, "JPEG", quality=80)), key=len)


def _bytes(image: object, form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)  # type: ignore[attr-defined]
    return buffer.getvalue()


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
