"""ONNX operators as Keras layers: one small function an operator, found in a table by the operator's name.

Layers are preferred to `keras.ops`, for every version and container of Keras reads them back.
"""

from __future__ import annotations

from collections.abc import Mapping

from fetafix.formats.keras import pointwise, products, shapes, windows
from fetafix.formats.keras.maker import Handler

CONVERT: Mapping[str, Handler] = {
    **windows.HANDLERS, **products.HANDLERS, **pointwise.HANDLERS, **shapes.HANDLERS,
}  # fmt: skip
