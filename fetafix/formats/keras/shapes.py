"""ONNX operators that move, join, cut or reduce axes, as Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.keras.laid import Laid
from fetafix.formats.keras.maker import Handler, Maker, keras_layers
from fetafix.formats.keras.products import SELECTION, selected
from fetafix.ir import Node


def _reduce(name: str) -> Callable[[Maker, Node], Laid]:
    def convert(maker: Maker, node: Node) -> Laid:
        import keras

        x = maker.input(node)
        axes: Any = node.attrs.get("axes")
        axes = maker.constant(node, 1) if axes is None else axes
        if axes is None:
            raise Unsupported(f"{node.op} over all axes, the batch among them")
        keep = bool(node.attrs.get("keepdims", 1))
        x = x if keep else x.plain
        native = tuple(sorted(x.perm.index(int(a) % len(x.perm)) for a in np.asarray(axes).reshape(-1)))
        made = getattr(keras.ops, name)(x.tensor, axis=native, keepdims=keep)
        return Laid(made, x.perm if keep else tuple(range(len(x.perm) - len(native))))

    return convert


def _concat(maker: Maker, node: Node) -> Laid:
    xs = [maker.input(node, i) for i in range(len(node.inputs))]
    xs = [x.turned(xs[0].perm) for x in xs]
    axis: Any = node.attrs["axis"]
    native = xs[0].perm.index(axis % len(xs[0].perm))
    return Laid(keras_layers().Concatenate(axis=native)([x.tensor for x in xs]), xs[0].perm)


def _transpose(maker: Maker, node: Node) -> Laid:
    """Nothing is moved: the tensor stays as it is, and stands in another relation to its ONNX twin."""
    x = maker.input(node)
    perm: Any = node.attrs.get("perm") or tuple(reversed(range(len(x.perm))))
    return Laid(x.tensor, tuple(tuple(perm).index(p) for p in x.perm))


def _reshape(maker: Maker, node: Node) -> Laid:
    x, shape = maker.input(node).plain, maker.shape(node)
    before = maker.values[node.input(0)].shape
    if not shape or shape[0] != before[0]:
        raise Unsupported("a reshape that changes the batch axis has no Keras layer")
    made = keras_layers().Flatten()(x.tensor) if len(shape) == 2 else keras_layers().Reshape(shape[1:])(x.tensor)
    return Laid(made, tuple(range(len(shape))))


def _slice(maker: Maker, node: Node) -> Laid:
    x = maker.input(node)
    starts, ends = (np.asarray(maker.needed(node, i)).reshape(-1) for i in (1, 2))
    axes = maker.constant(node, 3)
    steps = maker.constant(node, 4)
    axes = np.arange(starts.size) if axes is None else axes.reshape(-1)
    steps = np.ones(starts.size, int) if steps is None else steps.reshape(-1)
    if starts.size == 1 and int(axes[0]) % len(x.perm) and x.tensor.dtype == "float32":
        axis = int(axes[0]) % len(x.perm)
        size = x.tensor.shape[x.perm.index(axis)]
        kept = np.arange(size or 0)[slice(int(starts[0]), int(ends[0]), int(steps[0]))]
        if kept.size and size * kept.size <= SELECTION:
            return selected(x, axis, kept)
    cuts = [slice(None)] * len(x.perm)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        native = x.perm.index(int(axis) % len(x.perm))
        if native == 0 or step < 0:
            raise Unsupported("a slice of the batch, or one that runs backwards")
        limit = None if abs(int(end)) >= 2**31 - 1 else int(end)
        cuts[native] = slice(int(start), limit, int(step))
    return Laid(x.tensor[tuple(cuts)], x.perm)


def _gather(maker: Maker, node: Node) -> Laid:
    import keras

    x, indices = maker.input(node), maker.needed(node, 1)
    axis: Any = node.attrs.get("axis", 0)
    if indices.ndim != 1:
        raise Unsupported("Gather by other than a list of indices")
    axis = axis % len(x.perm)
    if axis and x.tensor.dtype == "float32" and x.tensor.shape[x.perm.index(axis)] * indices.size <= SELECTION:
        return selected(x, axis, indices)
    return Laid(keras.ops.take(x.tensor, indices.tolist(), axis=x.perm.index(axis)), x.perm)


def _same(maker: Maker, node: Node) -> Laid:
    return maker.input(node)


HANDLERS: Mapping[str, Handler] = {
    "ReduceMean": _reduce("mean"), "ReduceSum": _reduce("sum"), "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"), "Concat": _concat, "Transpose": _transpose, "Reshape": _reshape, "Flatten": _reshape,
    "Squeeze": _reshape, "Unsqueeze": _reshape, "Slice": _slice, "Gather": _gather,
    "Identity": _same, "Dropout": _same,
}  # fmt: skip
