"""A number beyond the range of float16.

*What goes wrong*
A conversion to float16 takes a node along whose values, or whose constants, exceed 65504: a sum over a large map, a
square, a rescaling, the -3.4e38 of an attention mask.

*How it shows*
Fed with the source's finite activations a float16 node makes infinities (NaN behind them), or a constant is infinite
or clamped to ±65504 or ±1e4 where the source's is larger. The same node in float32 makes finite numbers.

*Repair*
Compute that node in float32, with Casts around it and the source's constants; where its results are still too large for
float16, the nodes behind it too. A constant that float16 can hold is put right alone.

*When not to apply*
All values fit, and the difference is float16's rounding; or the source's own values are not finite there.

*Seen in*
TensorRT#4175
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, SetInput
from fetafix.faults.base import FaultType, Site, Suspicion
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.halfruns import Overflow, constants, cut_off, overflowing, overflows, runs, words
from fetafix.graph.halves import FLOAT, FLOAT16, HALF, LARGEST, halves, holds, in_single
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.segment import Segment
from fetafix.ir import Graph, Node

CODE = "dt-fp16-overflow"
_MOVING = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice")
_HOMOGENEOUS = ("ReduceMean", "GlobalAveragePool", "AveragePool", "Relu", "MaxPool")
_SCALE = 2.0**18
Readers = tuple[tuple[str, int], ...] | None


def detect(site: Site) -> Iterator[Suspicion]:
    """Float16 nodes that overflow on finite inputs; float16 constants that are cut off."""
    for first in _found(site):
        best = min((site.trial(e) for e in _candidates(site, first)), default=np.inf)
        if not isinstance(site, Segment) and not site.healed(best):
            return  # where other faults are, too, segments tell more
        sure = 0.97 if site.healed(best) else 0.7 if best < 0.5 * site.error else 0.4
        yield Suspicion(CODE, first.node.key, first.twin, sure, {"largest": first.largest, "limit": LARGEST,
                        "operator": first.node.op}, f"{first.why}; float16 ends at 65504", first)


def _found(site: Site) -> list[Overflow]:
    """The first overflow: of a segment, or of the target as a whole, whose infinities leave little to compare."""
    if isinstance(site, Segment):
        return [*overflows(site), *cut_off(site)][:1]
    if not halves(site.target) or site.healed(site.error):
        return []
    every = overflowing(site.target, site.target_feeds, Evaluator().run)
    return [Overflow(node, None, largest, words(node, largest)) for node, largest in every][:1]


def propose(site: Site, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The constant alone; the node in float32; it and those behind it; all float16 nodes of the segment."""
    yield from _candidates(site, suspicion.data)


def _candidates(site: Site, first: Overflow) -> Iterator[list[Edit]]:
    if not isinstance(site, Segment):
        yield from (in_single(site.target, keys, {}) for keys in runs(site.target, site.target.nodes, first.node))
        return
    segment, right = site, constants(site)
    if first.slot is not None:
        value = right[first.node.key, first.slot]
        if holds(HALF, value):
            yield [SetInput(first.node.key, first.slot, value.astype(np.float16))]
    for keys in runs(segment.full, segment.target.nodes, first.node):
        yield in_single(segment.full, keys, right)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A node in float16, its input rescaled by 2^18 before and its result after: what exceeds 1/4 overflows.

    Rather one that moves numbers: where ONNX Runtime has no kernel of float16, it computes in float32 throughout.
    """
    able = [n for n in graph.nodes if n.op in (*_MOVING, *_HOMOGENEOUS) and n.inputs and n.key not in graph.output_names
            and not graph.fixed(n.input(0)) and len([o for o in n.outputs if o]) == 1 and _real(graph, n.input(0))]
    moving = [n for n in able if n.op in _MOVING]
    if not able:
        return None
    node = (moving or able)[int(rng.integers(len(moving or able)))]
    steps = ((node.input(0), ("Mul", "Cast"), _SCALE, ((node.key, 0),)), (node.key, ("Cast", "Mul"), 1 / _SCALE, None))
    made: list[Edit] = []
    for tensor, ops, scale, readers in steps:
        for op in ops:
            made.append(edit := _step(graph, tensor, op, FLOAT16 if ops[0] == "Mul" else FLOAT, scale, readers))
            graph, tensor = edit.apply(graph), edit.node.outputs[0]
    return made


def _real(graph: Graph, tensor: str) -> bool:
    """Whether a tensor holds floats of a batch, as far as its shape and its maker tell."""
    maker = graph.producers.get(tensor)
    known = maker is not None and maker.op not in ("Shape", "Gather", "ArgMax", "Cast")
    return known and len(graph.shapes.get(tensor, ())) >= 2


def _step(graph: Graph, tensor: str, op: str, to: int, scale: float, readers: Readers) -> InsertNode:
    name, out = like(graph, op, graph.producers.get(tensor))
    if op == "Cast":
        return InsertNode(tensor, Node(op, (tensor,), (out,), {"to": to}, name), {}, readers)
    factor = tensor_like(graph, "scale", graph.producers.get(tensor))
    given = {factor: np.full(1, scale, np.float32)}
    return InsertNode(tensor, Node(op, (tensor, factor), (out,), {}, name), given, readers)


FAULT = FaultType(CODE, "Beyond the range of float16", "DT", detect, propose, inject, scope="both")
