"""What an image file's pixels are, where loaders differ: orientation, transparency, 16 bits, palettes, CMYK.

The defaults are what fetafix does unless told otherwise:
- orientation "exif": turned as the EXIF tag says (OpenCV does so; torchvision, Keras and TensorFlow take it as
  "stored");
- alpha "drop": colours as they are behind transparency (Pillow's `convert`, OpenCV, TensorFlow), or composited on
  "black" or "white" (browsers, editors);
- gray16 "scale": the upper 8 bits of 16 (libpng, OpenCV, TensorFlow), or "clip": all above 255 white (Pillow's
  `convert`);
- palette "colors", or "codes": the indices taken for gray (numpy.asarray of Pillow's image);
- cmyk "convert", or "inverted": Adobe's JPEGs hold inverted inks, which a loader that does not know takes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fetafix.ir import Array


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an image file becomes RGB; see above."""

    orientation: Literal["exif", "stored"] = "exif"
    alpha: Literal["drop", "black", "white"] = "drop"
    gray16: Literal["scale", "clip"] = "scale"
    palette: Literal["colors", "codes"] = "colors"
    cmyk: Literal["convert", "inverted"] = "convert"


USUAL = Decoding()


def rgb(image: Any, how: Decoding = USUAL) -> Array:
    """A PIL image as uint8 (height, width, 3)."""
    from PIL import ImageOps

    if how.orientation == "exif":
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of gray; convert() would clip at 255
        wide = np.asarray(image, np.int64)
        return _gray(np.clip(wide >> 8 if how.gray16 == "scale" else wide, 0, 255))
    if image.mode == "P" and how.palette == "codes":
        return _gray(np.asarray(image))
    if image.mode == "CMYK" and how.cmyk == "inverted":
        from PIL import ImageChops

        image = ImageChops.invert(image)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if how.alpha != "drop" and transparent:
        pixels = np.asarray(image.convert("RGBA"), np.float32)
        share = pixels[:, :, 3:] / 255
        ground = 255.0 if how.alpha == "white" else 0.0
        return np.rint(pixels[:, :, :3] * share + ground * (1 - share)).astype(np.uint8)
    return np.asarray(image.convert("RGB"), np.uint8)


def _gray(values: Array) -> Array:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)
