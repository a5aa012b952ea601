"""Stored bytes are damaged: flipped bits, a shifted offset, swapped byte order.

*What goes wrong*
A bit flips in the file or in memory; external data are read from a wrong offset, or with the other endianness.

*How it shows*
NaN, infinity or absurd magnitudes; very few elements of a large tensor differ; more of them, but in few of their bits,
each bit as often as the others; or the tensor is the source's moved by some bytes, or with its bytes reversed.

*Repair*
Set the source's values. Only damaged elements change.

*When not to apply*
Many elements differ without such a pattern (wb-weights), or the source holds the same odd values.

*Seen in*
onnxruntime#29788
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.damage import bits, damaged, flips
from fetafix.graph.memory import bytes_off
from fetafix.graph.parameters import Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.weights import close
from fetafix.ir import Graph
from fetafix.quantisation import Grid

CODE = "st-storage"
_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ABSURD = 1e30


def _what(p: Parameter, grid: Grid | None) -> tuple[str, float] | None:
    """What happened to a tensor's bytes, and how sure that is; None where they look like ordinary other values."""
    if p.value is None:
        return None
    shift = bytes_off(p.value, p.as_stored if p.direct else p.reference, p.direct, p.noise)
    if shift is not None:
        return f"the data lie {shift} bytes off", 0.98
    swapped = p.value.byteswap()
    if p.value.size > 1 and close(swapped, p.reference, p.noise) and not close(p.value, p.reference, p.noise):
        return "the bytes of each element are reversed", 0.98
    off = damaged(p)
    count = int(off.sum())
    few = off.size > 1 and 0 < count <= max(1, off.size // 100) and bits(p, off) <= 2  # 0.5 for 1 is a bit, no flip
    if few or (count and off.size > 1 and flips(p, grid, off)):
        return f"{count} of {off.size} elements have flipped bits", 0.98
    absurd = ~np.isfinite(p.value) | (np.abs(p.value) > _ABSURD)
    if absurd.any() and np.isfinite(p.reference).all():
        return f"{int(absurd.sum())} elements are not finite or beyond {_ABSURD:g}", 0.95
    if p.value.size >= 32 and 0 < count <= max(1, off.size // 500):
        return f"only {count} of {off.size} elements differ", 0.9
    return None


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Parameters that differ as damaged bytes do."""
    for p in differing(segment):
        found = _what(p, segment.target.grid(p.node.input(p.slot)))
        if found is not None:
            evidence = {"role": p.role, "elements": int(damaged(p).sum()), "of": int(p.reference.size)}
            yield Suspicion(CODE, p.node.key, p.twin.key, found[1], evidence, f"{p.role}: {found[0]}", p)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The damaged elements alone; the whole tensor."""
    p = suspicion.data
    yield [p.edit(segment.full, np.where(damaged(p).reshape(p.value.shape), p.as_stored, p.value))]
    yield [p.edit(segment.full)]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Flip the sign or an exponent bit of a large element, read the data 4 bytes late, or each element's in reverse."""
    weights = [(n.key, graph.constant(n, 1)) for n in graph.nodes if n.op in _OPS]
    places = [(k, w) for k, w in weights if w is not None and w.dtype == np.float32 and w.size >= 8 and np.ptp(w) > 0]
    if not places:
        return None
    key, weight = places[int(rng.integers(len(places)))]
    flat, bit = weight.flatten(), int(rng.choice([31, 30, 29, 27, 26, 0, -1]))
    if bit < 0:
        flat = flat.byteswap()
    elif bit == 0:
        flat = np.append(flat[1:], np.float32(rng.standard_normal()))  # what lies behind the tensor in the file
    else:
        large = np.argsort(np.abs(flat))[-max(1, flat.size // 4):]
        flat.view(np.uint32)[int(rng.choice(large))] ^= np.uint32(1 << bit)
    return [SetInput(key, 1, flat.reshape(weight.shape))]


FAULT = FaultType(CODE, "Stored bytes damaged", "ST", detect, propose, inject)
