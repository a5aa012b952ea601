"""ONNX operators that move values about, as TFLite operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fetafix.formats.base import Unsupported
from fetafix.formats.tflite.options import NONE, integer, ints
from fetafix.formats.tflite.schema import dtype_of
from fetafix.formats.tflite.tensors import Value
from fetafix.ir import Array, Node

if TYPE_CHECKING:
    from fetafix.formats.tflite.fragment import Translator


def _transpose(t: Translator, node: Node) -> Value:
    """Nothing is moved yet: the same native tensor, seen in another order."""
    source = t.value(node.input(0))
    turn = ints(node, "perm", range(len(source.perm))[::-1])
    return Value(source.tensor, tuple(source.perm[i] for i in turn))


def _reshape(t: Translator, node: Node) -> Value:
    source, out = t.onnx_layout(node.input(0)), node.outputs[0]
    shape = np.array(t.shape(out), np.int32)
    same_batch = t.shape(node.input(0))[:1] == t.shape(out)[:1]
    sizes = t.program.add_constant(t.open_batch(shape) if same_batch else shape, f"{out}_shape")
    return t.emit("RESHAPE", [source.tensor, sizes], out, range(shape.size), {"newShape": None})


def _concat(t: Translator, node: Node) -> Value:
    parts = [t.value(name) for name in node.inputs]
    lead = next((p for p, name in zip(parts, node.inputs, strict=True) if not t.is_constant(name)), parts[0])
    axis = integer(node, "axis", 0) % len(lead.perm)
    grid = t.program.quantisation(lead.tensor)
    if grid is not None:
        goal = t.wanted(node.outputs[0]) or (grid, dtype_of(t.program.tensors[lead.tensor]) or np.dtype(np.int8))
        parts = [t.on_grid(p, *goal, name) for p, name in zip(parts, node.inputs, strict=True)]
    sides = [t.shaped(p, lead.perm, name).tensor for p, name in zip(parts, node.inputs, strict=True)]
    options = {"axis": lead.perm[axis], "fusedActivationFunction": NONE}
    return t.emit("CONCATENATION", sides, node.outputs[0], lead.perm, options)


def _slice(t: Translator, node: Node) -> Value:
    rank = len(t.shape(node.input(0)))
    old = [node.attrs.get(k) for k in ("starts", "ends", "axes")] + [None]
    given: list[Any] = [t.parameter(node, i + 1) if node.input(i + 1) else old[i] for i in range(4)]
    starts, ends, axes, steps = (None if g is None else [int(v) for v in np.asarray(g).reshape(-1)] for g in given)
    if starts is None or ends is None:
        raise Unsupported(f"{node.label} has no bounds")
    axes = list(range(len(starts))) if axes is None else [a % rank for a in axes]
    spans = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        spans[axis] = slice(start, end, step)
    return _strided(t, node.input(0), spans, node.outputs[0])


def _strided(t: Translator, name: str, spans: Sequence[slice], out: str) -> Value:
    source, shape = t.value(name), t.shape(name)
    begin, end, step = ([0] * len(shape) for _ in range(3))
    begin_mask = end_mask = 0
    for axis, span in enumerate(spans):
        place = source.perm[axis]
        start, stop, step[place] = span.indices(shape[axis])
        begin[place], end[place] = start, stop
        if span == slice(None):
            begin_mask, end_mask = begin_mask | 1 << place, end_mask | 1 << place
        elif stop < 0:  # down to the first element
            end_mask |= 1 << place
            end[place] = 0
    consts = [t.program.add_constant(np.array(v, np.int32), f"{out}_slice") for v in (begin, end, step)]
    options = {"beginMask": begin_mask, "endMask": end_mask}
    return t.emit("STRIDED_SLICE", [source.tensor, *consts], out, source.perm, options)


def _split(t: Translator, node: Node) -> Value:
    """The parts one by one, each a slice; the first is returned."""
    axis = integer(node, "axis", 0) % len(t.shape(node.input(0)))
    at, made = 0, []
    for out in node.outputs:
        size = t.shape(out)[axis]
        spans = [slice(None)] * len(t.shape(out))
        spans[axis] = slice(at, at + size)
        made.append(_strided(t, node.input(0), spans, out))
        t.know(out, made[-1])
        at += size
    return made[0]


def _gather(t: Translator, node: Node) -> Value:
    source, places = t.value(node.input(0)), t.parameter(node, 1)
    axis = integer(node, "axis", 0) % len(source.perm)
    if places is None or not t.is_constant(node.input(1)):
        source = t.onnx_layout(node.input(0))
        index = t.onnx_layout(node.input(1))
        return t.emit("GATHER", [source.tensor, index.tensor], node.outputs[0],
                      range(len(t.shape(node.outputs[0]))), {"axis": axis, "batchDims": 0})  # fmt: skip
    places = np.asarray(np.where(places < 0, places + t.shape(node.input(0))[axis], places), np.int32)
    if places.ndim != 1:
        source = t.onnx_layout(node.input(0))
        perm: Sequence[int] = range(len(t.shape(node.outputs[0])))
    else:
        perm = source.perm
    return _picked(t, source, source.perm[axis], places, node.outputs[0], perm)


def _picked(t: Translator, source: Value, axis: int, places: Array, out: str, perm: Sequence[int],
            shape: Sequence[int] | None = None) -> Value:  # fmt: skip
    index = t.program.add_constant(places, f"{out}_indices")
    return t.emit("GATHER", [source.tensor, index], out, perm, {"axis": axis, "batchDims": 0}, shape=shape)


def _pad(t: Translator, node: Node) -> Value:
    rank, source, out = len(t.shape(node.input(0))), t.value(node.input(0)), node.outputs[0]
    given: Any = t.parameter(node, 1) if node.input(1) else node.attrs.get("pads")
    flat = [int(v) for v in np.asarray(given).reshape(-1)]
    axes = t.parameter(node, 3)
    touched = list(range(rank)) if axes is None else [int(a) % rank for a in axes.reshape(-1)]
    half = len(flat) // 2
    pads = [(0, 0)] * rank
    for i, axis in enumerate(touched):
        pads[source.perm[axis]] = flat[i], flat[half + i]
    if any(v < 0 for pair in pads for v in pair):
        raise Unsupported(f"{node.label}: negative pads")
    mode = node.attrs.get("mode", "constant")
    if mode == "edge" or (mode == "reflect" and t.quantised()):
        return _edges(t, source, pads, out, str(mode))
    rows = t.program.add_constant(np.array(pads, np.int32), f"{out}_pads")
    if mode == "reflect":
        return t.emit("MIRROR_PAD", [source.tensor, rows], out, source.perm, {"mode": 0})
    fill: Any = t.constant(node, 2) if node.input(2) else node.attrs.get("value", 0.0)
    number = 0.0 if fill is None else float(np.asarray(fill).reshape(-1)[0])
    if number == 0.0:
        return t.emit("PAD", [source.tensor, rows], out, source.perm)
    value = t.program.add_constant(np.array(number, np.float32), "fetafix_constant")
    return t.emit("PADV2", [source.tensor, rows, value], out, source.perm)


def _edges(t: Translator, source: Value, pads: Sequence[tuple[int, int]], out: str, mode: str) -> Value:
    """Borders that repeat what is inside, picked axis by axis."""
    for axis, (before, behind) in enumerate(pads):
        if before or behind:
            shape = list(t.program.shape(source.tensor))
            inside = np.arange(shape[axis], dtype=np.int32)
            places = np.pad(inside, (before, behind), "edge" if mode == "edge" else "reflect")
            shape[axis] = places.size
            source = _picked(t, source, axis, places, out, source.perm, shape)
    return source


def _depth_to_space(t: Translator, node: Node) -> Value:
    block = integer(node, "blocksize", 1)
    source, out = t.channels_last(node.input(0)), node.outputs[0]
    if node.attrs.get("mode", "DCR") == "CRD":
        depth = t.shape(node.input(0))[1] // block**2
        places = np.arange(depth * block**2, dtype=np.int32).reshape(depth, block**2).T.reshape(-1)
        source = _picked(t, source, 3, places, out, source.perm, t.program.shape(source.tensor))
    return t.emit("DEPTH_TO_SPACE", [source.tensor], out, source.perm, {"blockSize": block})


def _space_to_depth(t: Translator, node: Node) -> Value:
    source = t.channels_last(node.input(0))
    options = {"blockSize": integer(node, "blocksize", 1)}
    return t.emit("SPACE_TO_DEPTH", [source.tensor], node.outputs[0], source.perm, options)


def _expand(t: Translator, node: Node) -> Value:
    source, out = t.onnx_layout(node.input(0)), node.outputs[0]
    sizes = t.program.add_constant(np.array(t.shape(out), np.int32), f"{out}_shape")
    return t.emit("BROADCAST_TO", [source.tensor, sizes], out, range(len(t.shape(out))))


def _tile(t: Translator, node: Node) -> Value:
    source, repeats, out = t.onnx_layout(node.input(0)), t.parameter(node, 1), node.outputs[0]
    counts = t.program.add_constant(np.asarray(repeats, np.int32), f"{out}_repeats")
    return t.emit("TILE", [source.tensor, counts], out, range(len(t.shape(out))))


def _cumsum(t: Translator, node: Node) -> Value:
    source, axis = t.value(node.input(0)), t.parameter(node, 1)
    if axis is None:
        raise Unsupported(f"{node.label} has no axis")
    place = source.perm[int(axis.reshape(())) % len(source.perm)]
    name = t.program.add_constant(np.array(place, np.int32), f"{node.key}_axis")
    options = {"exclusive": bool(integer(node, "exclusive", 0)), "reverse": bool(integer(node, "reverse", 0))}
    return t.emit("CUMSUM", [source.tensor, name], node.outputs[0], source.perm, options)


HANDLERS: Mapping[str, Callable[[Translator, Node], Value]] = {
    "Transpose": _transpose, **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Concat": _concat, "Slice": _slice, "Split": _split, "Gather": _gather, "Pad": _pad,
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Expand": _expand, "Tile": _tile,
    "CumSum": _cumsum,
}  # fmt: skip
