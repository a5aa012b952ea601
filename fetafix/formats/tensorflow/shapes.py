"""ONNX operators that move, cut, join or reduce axes, in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tensorflow.call import Call, Handler


def _reduce(function: str) -> Callable[[Call], Any]:
    """A reduction by TensorFlow's name."""

    def emit(call: Call) -> Any:
        given = call.input(1) is not None or call.attr("axes") is not None
        axes = call.fixed(1, "axes") if given else None
        return getattr(call.tf, function)(call.inputs[0], axes, bool(call.attr("keepdims", 1)))

    return emit


def _reshape(call: Call) -> Any:
    """A zero takes over the input's size."""
    x = call.inputs[0]
    if call.constant(1) is None and call.attr("shape") is None:
        return call.tf.reshape(x, call.inputs[1])
    shape = call.fixed(1, "shape")
    known = call.tf.shape(x)
    sizes = [known[i] if s == 0 else s for i, s in enumerate(shape)]
    if all(isinstance(s, int) for s in sizes):
        return call.tf.reshape(x, sizes)
    made = call.tf.reshape(x, call.tf.stack(sizes))
    made.set_shape([x.shape[i] if s == 0 else (None if s < 0 else s) for i, s in enumerate(shape)])
    return made


def _flatten(call: Call) -> Any:
    """To two axes."""
    x, axis = call.inputs[0], call.attr("axis", 1)
    rest = x.shape[axis:]
    size = int(np.prod(rest)) if None not in list(rest) else -1
    if axis == 1:
        return call.tf.reshape(x, [-1, size]) if size > 0 else call.tf.reshape(x, [call.tf.shape(x)[0], -1])
    return call.tf.reshape(x, call.tf.stack([call.tf.reduce_prod(call.tf.shape(x)[:axis]), size]))


def _squeeze(call: Call) -> Any:
    """Axes of length 1 taken out."""
    return call.tf.squeeze(call.inputs[0], call.fixed(1, "axes"))


def _unsqueeze(call: Call) -> Any:
    """Axes of length 1 put in."""
    axes = call.fixed(1, "axes")
    rank = call.rank() + len(axes)
    y = call.inputs[0]
    for axis in sorted(a % rank for a in axes):
        y = call.tf.expand_dims(y, axis)
    return y


def _pad(call: Call) -> Any:
    """Pad by a constant, or by what is inside."""
    flat, mode = call.fixed(1, "pads"), call.attr("mode", "constant")
    half = len(flat) // 2
    amounts = list(zip(flat[:half], flat[half:], strict=True))
    kinds = {"constant": "CONSTANT", "reflect": "REFLECT"}
    if mode not in kinds or min(flat) < 0 or len(call.node.inputs) > 3:
        raise Unsupported(f"{call.node.label}: Pad in mode {mode} or with negative amounts")
    value = call.constant(2)
    return call.tf.pad(call.inputs[0], amounts, kinds[mode], 0 if value is None else np.asarray(value).reshape(()))


def _slices(call: Call) -> Any:
    """Slice with constant bounds."""
    starts, ends = call.fixed(1, "starts"), call.fixed(2, "ends")
    axes = call.fixed(3, "axes") if call.input(3) is not None or call.attr("axes") else list(range(len(starts)))
    steps = call.fixed(4) if call.input(4) is not None else [1] * len(starts)
    index = [slice(None)] * call.rank()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if end > 2**31 - 2 or end < -(2**31) else end, step)
    return call.inputs[0][tuple(index)]


def _gather(call: Call) -> Any:
    """Along one axis; negative indices count from the end."""
    index = call.constant(1)
    axis = call.attr("axis", 0)
    if index is None:
        return call.tf.gather(call.inputs[0], call.inputs[1], axis=axis)
    if np.any(index < 0):
        index = index % int(call.inputs[0].shape[axis])
    return call.tf.gather(call.inputs[0], index, axis=axis)


HANDLERS: Mapping[str, Handler] = {
    "Concat": lambda c: c.tf.concat(list(c.inputs), c.attr("axis")),
    "Expand": lambda c: c.inputs[0] + c.tf.zeros(c.fixed(1), c.inputs[0].dtype),
    "Flatten": _flatten, "Gather": _gather, "Pad": _pad,
    "ReduceMax": _reduce("reduce_max"), "ReduceMean": _reduce("reduce_mean"), "ReduceMin": _reduce("reduce_min"),
    "ReduceProd": _reduce("reduce_prod"), "ReduceSum": _reduce("reduce_sum"), "Reshape": _reshape,
    "Shape": lambda c: c.tf.shape(c.inputs[0], c.tf.int64), "Slice": _slices,
    "Split": lambda c: c.tf.split(c.inputs[0], c.fixed(1, "split"), c.attr("axis", 0)), "Squeeze": _squeeze,
    "Tile": lambda c: c.tf.tile(c.inputs[0], c.fixed(1)),
    "Transpose": lambda c: c.tf.transpose(c.inputs[0], c.attr("perm")), "Unsqueeze": _unsqueeze,
}  # fmt: skip
