"""Kernel arithmetic of convolutions and poolings: explicit pads, output sizes, settings that cannot matter.

Formulas are those of the ONNX operator documentation. Values are canonical attributes, spatial axes only.
"""

from __future__ import annotations

import math
from typing import Any

Values = dict[str, Any]

SPATIAL = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "ConvInteger", "QLinearConv"})
WIDENED = SPATIAL - {"ConvTranspose"}  # operators whose pads make the map wider; those of a ConvTranspose crop it


def explicit_pads(
    op: str, values: Values, source: tuple[int, ...] | None, out: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Pads (begin…, end…) of a kernel operator; formulas of the ONNX operator documentation; None where shapes lack."""
    kernel, strides, dilations = values["kernel_shape"], values["strides"], values["dilations"]
    auto, n = values.get("auto_pad", "NOTSET"), len(kernel)
    if auto == "VALID":
        return (0,) * (2 * n)
    transposed = op == "ConvTranspose"
    if auto == "NOTSET" and not (transposed and values.get("output_shape")):
        return tuple(values.get("pads") or (0,) * (2 * n))
    if source is None or out is None:
        return None
    begin, end = [], []
    for i in range(n):
        extent, size, made = (kernel[i] - 1) * dilations[i] + 1, source[2 + i], out[2 + i]
        if transposed:
            total = max(strides[i] * (size - 1) + values["output_padding"][i] + extent - made, 0)
        else:
            total = max((math.ceil(size / strides[i]) - 1) * strides[i] + extent - size, 0)
        small, large = total // 2, total - total // 2
        first_small = auto == "SAME_UPPER"
        begin.append(small if first_small else large)
        end.append(large if first_small else small)
    return (*begin, *end)


def normalised_crop(values: Values) -> Values:
    """A transposed convolution's output_padding as less cropping at the end: pads crop what output_padding adds."""
    pads, more = values.get("pads"), values.get("output_padding")
    if pads is None or more is None:
        return values
    n = len(more)
    end = tuple(p - m for p, m in zip(pads[n:], more, strict=True))
    return {**values, "pads": (*pads[:n], *(max(e, 0) for e in end)),
            "output_padding": tuple(max(-e, 0) for e in end)}


def normalised_pooling(values: Values, source: tuple[int, ...] | None) -> Values:
    """Switch off what cannot matter: ceil_mode where extents divide, count_include_pad without pads."""
    pads, kernel = values.get("pads"), values["kernel_shape"]
    if pads is not None and values.get("ceil_mode") and source is not None:
        n, dilations = len(kernel), values["dilations"]
        room = [source[2 + i] + pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] - 1 for i in range(n)]
        values["ceil_mode"] = int(any(r % s for r, s in zip(room, values["strides"], strict=True)))
    if pads is not None and not any(pads) and not values.get("ceil_mode") and "count_include_pad" in values:
        values["count_include_pad"] = 0
    return values


def extent(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Output size of a kernel along one axis, rounded down; `padding` is begin + end."""
    return (size + padding - (kernel - 1) * dilation - 1) // stride + 1


def field_orders(pads: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Other orders of the fields of pads (begin…, end…) that known mistakes make, by what went wrong."""
    n = len(pads) // 2
    begin, end = tuple(pads[:n]), tuple(pads[n:])
    pairs = tuple(p for both in zip(begin, end, strict=True) for p in both)
    unpaired = (*pads[::2], *pads[1::2])
    made = {
        "begin and end exchanged": (*end, *begin),
        "pairs (begin, end) of each axis read as all begins, then all ends": pairs,
        "all begins, then all ends read as pairs of each axis": unpaired,
        "the axes reversed": (*begin[::-1], *end[::-1]),
    }
    return {how: other for how, other in made.items() if other != tuple(pads)}
