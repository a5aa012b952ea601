"""A kernel is flipped: convolution was taken for correlation.

*What goes wrong*
Frameworks correlate, some formats convolve; the converter flips the kernel, or fails to, along height, width or both.

*How it shows*
The weight holds the source's values; reversed along its spatial axes it equals them.

*Repair*
Flip the target's kernel back.

*When not to apply*
The kernel is symmetric along those axes: nothing is wrong then.

*Seen in*
common to Theano-, MATLAB- and Caffe-era converters
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.parameters import WEIGHT, Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph

CODE = "wb-kernel-flip"
_CONVOLUTIONS = ("Conv", "ConvTranspose")


def _axes(ndim: int) -> list[tuple[int, ...]]:
    """All spatial axes, then each alone."""
    spatial = tuple(range(2, ndim))
    return [spatial, *((a,) for a in spatial)] if len(spatial) > 1 else [spatial]


def _flipped(p: Parameter) -> tuple[int, ...] | None:
    """The spatial axes along which the target's kernel is reversed."""
    if p.value is None or p.value.ndim < 3 or p.node.op not in _CONVOLUTIONS:
        return None
    return next((a for a in _axes(p.value.ndim) if close(np.flip(p.value, a), p.reference, p.noise)), None)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Kernels that equal the source's once they are reversed."""
    for p in differing(segment, WEIGHT):
        axes = _flipped(p)
        if axes is not None:
            yield Suspicion(CODE, p.node.key, p.twin.key, 0.97, {"axes": list(axes)},
                            f"the kernel is the source's, reversed along axes {list(axes)}", (p, axes))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The target's own kernel flipped back."""
    p, axes = suspicion.data
    yield [p.edit(segment.full, np.ascontiguousarray(np.flip(p.value, axes)))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Reverse a kernel that is not symmetric."""
    places: list[tuple[str, Array]] = []
    for node in graph.nodes:
        weight = graph.constant(node, 1)
        if node.op not in _CONVOLUTIONS or weight is None or weight.ndim < 3 or max(weight.shape[2:]) < 2:
            continue
        for axes in _axes(weight.ndim):
            turned = np.ascontiguousarray(np.flip(weight, axes))
            if not close(turned, weight, 1e-2):
                places.append((node.key, turned))
    if not places:
        return None
    key, turned = places[int(rng.integers(len(places)))]
    return [SetInput(key, 1, turned)]


FAULT = FaultType(CODE, "Kernel flipped", "WB", detect, propose, inject)
