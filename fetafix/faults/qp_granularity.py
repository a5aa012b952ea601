"""One scale for a whole weight where its channels need scales of their own.

*What goes wrong*
A converter that knows no per-channel quantisation replaces the vector of scales by one number, or requantises the
weight with the scale of its largest channel.

*How it shows*
With the codes of per-channel quantisation and one scale for all, every channel is stretched or shrunk: the scale that
fits the source's weight differs from channel to channel. With requantised codes, channels of small range are left with
a few levels, and lose.

*Repair*
A scale per channel: with the codes as they are where those fit the source's weight, else with codes made anew from it.

*When not to apply*
One scale per tensor is legitimate, and what it costs is rounding: nothing is done as long as that explains the error.

*Seen in*
Post-training quantisation of depthwise layers (common knowledge, no thread found)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.coded import Coded, coded, weights_in_codes
from fetafix.graph.parameters import Parameter
from fetafix.graph.segment import Segment
from fetafix.ir import Array, Graph, Node
from fetafix.quantisation import Grid, grid_for

CODE = "qp-granularity"
_SPREAD = 1.3
_LEVELS = 16.0  # a channel whose largest value is fewer steps than this has less than 5 bits


def channel_axis(node: Node, rank: int) -> int:
    """The axis of a layer's weight along which the output channels lie."""
    if node.op in ("MatMul", "ConvTranspose") or (node.op == "Gemm" and not node.attrs.get("transB")):
        return 1 if rank > 1 else 0
    return 0


def _single(grid: Grid) -> bool:
    return grid.scale.size == 1 or bool(np.all(grid.scale == grid.scale.reshape(-1)[0]))


def _per_channel(node: Node, old: Grid, new: Grid, axis: int) -> list[Edit]:
    move: list[Edit] = [] if old.axis == axis else [SetAttribute(node.key, "axis", axis)]
    return [SetInput(node.key, 1, new.scale), SetInput(node.key, 2, new.zero_point), *move]


def _kept(found: Coded, axis: int) -> list[Edit] | None:
    """Scales per channel with the codes as they are; None where they do not make the source's weight."""
    fitted = found.fit(axis)
    if fitted is None or float(np.max(fitted)) < _SPREAD * float(np.min(fitted[fitted > 0], initial=np.inf)):
        return None
    stored = float(found.grid.scale.reshape(-1)[0])
    scale = np.where(fitted > 0, fitted, stored).astype(np.float32)
    zero = np.full(scale.shape, found.grid.zero_point.reshape(-1)[0], found.grid.dtype)
    return _per_channel(found.node, found.grid, Grid(scale, zero, axis, found.grid.dtype), axis)


def _made_anew(node: Node, old: Grid, reference: Array, axis: int) -> list[Edit] | None:
    """Codes and scales per channel of the source's weight; None where no channel loses with one scale."""
    axes = tuple(i for i in range(reference.ndim) if i != axis)
    low, high = np.min(reference, axis=axes), np.max(reference, axis=axes)
    largest = np.maximum(-low, high)
    if not np.any((largest > 0) & (largest < _LEVELS * float(np.max(old.scale)))) or old.dtype.kind != "i":
        return None
    new = grid_for(low, high, old.dtype, symmetric=True, axis=axis)
    return [SetInput(node.key, 0, new.codes(reference)), *_per_channel(node, old, new, axis)]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Weights on one scale whose channels need several."""
    for found in coded(segment):
        p: Parameter = found.parameter
        axis = channel_axis(p.node, found.codes.ndim)
        if not _single(found.grid) or found.codes.ndim < 2 or found.codes.shape[axis] < 2:
            continue
        kept = _kept(found, axis)
        edits = kept or _made_anew(found.node, found.grid, found.reference, axis)
        if edits:
            how = "one scale stands for codes made with one per channel" if kept else "channels of small range lose"
            yield Suspicion(CODE, p.node.key, p.twin.key, 0.95 if kept else 0.5,
                            {"channels": found.codes.shape[axis], "codes_kept": kept is not None}, how, edits)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """A scale per channel."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The mean of a layer's scales for all of its channels."""
    places = [(n, g) for n, _, g, _ in weights_in_codes(graph) if g.scale.size > 1
              and float(np.max(g.scale)) > _SPREAD * float(np.min(g.scale)) and not np.any(g.zero_point)]
    if not places:
        return None
    node, grid = places[int(rng.integers(len(places)))]
    return [SetInput(node.key, 1, np.asarray(np.mean(grid.scale), np.float32)),
            SetInput(node.key, 2, np.zeros((), grid.dtype))]


FAULT = FaultType(CODE, "One scale for channels that need their own", "QP", detect, propose, inject)
