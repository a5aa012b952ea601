"""The ONNX view of a TensorFlow program, and which of its tensors hold which of TensorFlow's.

tf2onnx keeps TensorFlow's tensor names but moves Transposes about, so that a tensor may hold its namesake's values in
another layout. Which one, the values on the example tell; where they fit several layouts, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from fetafix.errors import FetafixError, LiftError
from fetafix.formats.base import Lifted, OpenOptions
from fetafix.formats.onnx import view as onnx_view
from fetafix.formats.onnx.view import Taps
from fetafix.formats.tensorflow import lift as tf_lift
from fetafix.formats.tensorflow.graph import join, split
from fetafix.formats.tensorflow.program import Program
from fetafix.formats.tensorflow.tap import Tapped
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.proto import graph_from_model
from fetafix.ir import Array, Graph

_CLOSE = 1e-4
_MANY = 1 << 14


def lift(program: Program, options: OpenOptions, folder: Path, example: Mapping[str, Array]) -> Lifted:
    """Write the view into `folder`. Raises LiftError."""
    flat = program.flat
    try:
        tapped = Tapped(program, options)
    except Exception as error:  # whatever TensorFlow raises
        raise LiftError(f"its graph cannot be frozen: {type(error).__name__}: {str(error)[:300]}") from error
    inputs = {n: _port(t) for n, t in flat.inputs.items()}
    outputs = {n: _port(t) for n, t in flat.outputs.items()}
    model, notes = tf_lift.convert(tapped.graph_def, inputs, outputs)
    try:
        values = tapped.values(example)
        taps = match(graph_from_model(model, folder), flat.inputs, flat.outputs, values, example)
    except FetafixError as error:
        raise LiftError(f"its ONNX view does not run: {error}") from error
    finally:
        tapped.close()
    path = onnx_view.save(model, taps, folder, example)
    names = tf_lift.names(model, [n.name for n in tapped.graph_def.node])
    names.update({tensor: split(native)[0] for native, tensor in taps.tensors.items() if tensor in names})
    return Lifted(path, names, notes)


def match(
    graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str], values: Mapping[str, Array],
    example: Mapping[str, Array],
) -> Taps:
    """TensorFlow tensor → ONNX tensor, with the permutation of axes where there is one."""
    tensors = [o for n in graph.nodes for o in n.outputs if o]
    made = dict(zip(tensors, Evaluator().run(graph, example, tensors), strict=True)) if tensors else {}
    found: dict[str, str] = {join(*split(t)): n for n, t in inputs.items()}
    layouts: dict[str, tuple[int, ...]] = {}
    taken: set[str] = set()

    def claim(native: str, tensor: str) -> None:
        if native in values and native not in found and tensor not in taken:
            perm = layout(values[native], made[tensor])
            if perm is not None:
                found[native] = tensor
                taken.add(tensor)
                if perm != tuple(range(len(perm))):
                    layouts[native] = perm

    for name, native in outputs.items():
        if name in made:
            claim(join(*split(native)), name)
    for tensor in tensors:
        claim(join(*split(tensor)), tensor)
    loose = [t for t in tensors if t not in taken]
    for native in values:
        if native not in found:
            for tensor in loose:
                if tensor not in taken and made[tensor].size == values[native].size:
                    claim(native, tensor)
    return Taps(found, layouts)


def layout(native: Array, tensor: Array) -> tuple[int, ...] | None:
    """The permutation of axes that makes `tensor` of `native`; None where there is none, or several that differ."""
    if native.size != tensor.size or native.ndim != tensor.ndim or not tensor.size:
        return None
    scale = float(np.max(np.abs(tensor.astype(np.float64)))) or 1.0
    fitting = [p for p in _layouts(native, tensor) if _fits(native.transpose(p), tensor, scale)]
    return fitting[0] if len(fitting) == 1 else None


def _layouts(native: Array, tensor: Array) -> Iterator[tuple[int, ...]]:
    """Permutations that give the shape; of those that only move axes of length 1, one stands for all."""
    seen: set[tuple[int, ...]] = set()
    for perm in permutations(range(native.ndim)):
        long = tuple(p for p in perm if native.shape[p] > 1)
        if tuple(native.shape[p] for p in perm) == tensor.shape and long not in seen:
            seen.add(long)
            yield perm


def _fits(native: Array, tensor: Array, scale: float) -> bool:
    a, b = native.astype(np.float64), tensor.astype(np.float64)
    if a.size > _MANY:
        step = a.size // _MANY
        a, b = a.reshape(-1)[::step], b.reshape(-1)[::step]
    return bool(np.allclose(a, b, rtol=_CLOSE, atol=_CLOSE * scale, equal_nan=True))


def _port(tensor: Any) -> str:
    node, index = split(tensor)
    return f"{node}:{index}"
