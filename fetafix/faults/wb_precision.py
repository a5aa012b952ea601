"""Weights went through a coarser number format.

*What goes wrong*
A converter stores weights as fp16, bf16 or int8 and writes them back as float32 (or quantises unasked).

*How it shows*
A small broadband error. Every value of the target lies on the coarse grid and within one step of the source's value,
which does not lie on it.

*Repair*
Set the source's values.

*When not to apply*
The target's tensors have the coarse type themselves, or precision was reduced on purpose.

*Seen in*
tensorflow-onnx#2394
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph

CODE = "wb-precision"
_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_LEAST = 8


def half(value: Array) -> Array:
    """Rounded to fp16 and back."""
    with np.errstate(over="ignore"):
        return np.asarray(value.astype(np.float16).astype(np.float32))


def brain(value: Array) -> Array:
    """Truncated to bf16: the upper 16 bits of float32."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return np.asarray(bits.view(np.float32))


def int8(value: Array) -> Array:
    """Quantised symmetrically to 255 levels of the whole tensor and back."""
    step = np.max(np.abs(value)) / 127
    return np.asarray((np.round(value / step) * step).astype(np.float32))


def _levels(value: Array, reference: Array) -> bool:
    """Whether values are whole multiples of an 8-bit step, each within one step of the reference."""
    spread = np.ptp(np.append(value, 0.0))
    for step in (float(np.max(np.abs(value))) / 127, float(spread) / 255, float(spread) / 254):
        if step <= 0:
            return not np.any(reference)
        multiples = value.astype(np.float64) / step
        if np.max(np.abs(multiples - np.round(multiples))) < 0.01 and np.max(np.abs(value - reference)) <= 0.6 * step:
            return True
    return False


def _int8(value: Array, reference: Array) -> str | None:
    """Whether the tensor, or each slice of an axis, has 8-bit levels."""
    if _levels(value, reference):
        return "int8 per tensor"
    for axis in range(min(value.ndim, 2) if value.ndim > 1 else 0):
        slices = zip(np.moveaxis(value, axis, 0), np.moveaxis(reference, axis, 0), strict=True)
        if value[0].size >= _LEAST and all(_levels(v, r) for v, r in slices):
            return "int8 per channel"
    return None


def grid(p: Parameter) -> str | None:
    """The format whose grid the target's values lie on, close to the source's."""
    v = p.value
    if v is None or v.dtype != np.float32 or v.size < _LEAST or not np.isfinite(v).all():
        return None
    off, magnitude = np.abs(v - p.reference), np.abs(p.reference)
    noise = 1e-6 * float(np.max(magnitude))
    if np.array_equal(half(v), v) and np.all(off <= magnitude * 2**-10 + noise):
        return "fp16"
    if np.array_equal(brain(v), v) and np.all(off <= magnitude * 2**-7 + noise):
        return "bf16"
    return _int8(v, p.reference)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Parameters on a coarse grid around the source's."""
    for p in differing(segment):
        name = grid(p)
        if name is not None:
            off = float(np.max(np.abs(np.asarray(p.value) - p.reference)))
            yield Suspicion(CODE, p.node.key, p.twin.key, 0.96, {"grid": name, "max_abs": off},
                            f"the values were rounded to {name}", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's values; then those of all rounded parameters of the segment."""
    yield [suspicion.data.edit(segment.full)]
    every = [p for p in differing(segment) if grid(p) is not None]
    yield from [[p.edit(segment.full) for p in every]] if len(every) > 1 else []


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A layer's weight is rounded to fp16, bf16 or int8."""
    places = [(n.key, made) for n in graph.nodes if n.op in _OPS and (w := graph.constant(n, 1)) is not None
              and w.dtype == np.float32 and w.size >= 32 for f in (half, brain, int8)
              if not np.allclose(made := f(w), w, rtol=0, atol=1e-5 * float(np.max(np.abs(w))))]
    if not places:
        return None
    key, made = places[int(rng.integers(len(places)))]
    return [SetInput(key, 1, made)]


FAULT = FaultType(CODE, "Weights rounded", "WB", detect, propose, inject)
