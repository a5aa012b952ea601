"""What the images of a quantised model are, where nobody said: the real numbers that its input's codes stand for.

An 8 bit input with scale 1/128 and zero point 128 covers −1 to 1, one with scale 1 and zero point −128 covers 0 to 255:
whoever calibrated the model chose them for its preprocessing. So pixel p becomes the number of the (p+1)-th code, which
is exact: scale · p + the lowest number.
"""

from __future__ import annotations

from collections.abc import Mapping

from fetafix.inputs.preprocess import ASSUMED, Preprocess
from fetafix.inputs.signature import image_input
from fetafix.report import ModelInfo

_PIXELS = 255


def assumed(model: ModelInfo) -> Preprocess | None:
    """The preprocessing that a model's codes speak for; None where no image input is quantised.

    Read from `details["quantised_inputs"]`, as the formats tell it.
    """
    known = model.details.get("quantised_inputs")
    if not isinstance(known, Mapping):
        return None
    for spec in model.inputs:
        facts = known.get(spec.name)
        if isinstance(facts, Mapping) and image_input(spec) is not None:
            low, high = facts["range"]
            return ASSUMED.changed({"scale": (high - low) / _PIXELS, "offset": low})
    return None
