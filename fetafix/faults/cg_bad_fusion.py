"""An optimiser fused operators, and the fused one does something else.

*What goes wrong*
A graph that was optimised offline holds operators which stand for several of the source's: a convolution with its
activation, a product with its scale, a sum with its normalisation. One of the parts, or a parameter of it, got lost or
is another.

*How it shows*
The guilty segment holds a fused operator (domain com.microsoft) where the source has plain ones; the same graph without
optimisation agrees.

*Repair*
The fused operator's attributes as they follow from the source's nodes; else the source's plain nodes in its place.

*When not to apply*
The fused operator answers like what it is fused of: the usual, a NO-OP. A value that was folded to a wrong constant is
a wrong weight (wb-weights), since nothing tells of the fold any more. A part that is missing altogether, so that the
fused operator is what the source has before it, is a missing operator.

*Seen in*
onnxruntime#32228, #29788
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.fusions import Activation, Pair, activation, changes, fused, pairs, settings
from fetafix.graph.graft import grafts
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "cg-bad-fusion"
_WRONG = (Activation("Tanh"), Activation("Sigmoid"), Activation("LeakyRelu", (0.3,)), Activation("Clip", (0.0, 0.5)))


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Fused operators in a guilty segment, of which the source has none."""
    if segment.healed(segment.error) or fused(segment.source):
        return
    for node in fused(segment.target):
        ways = [made for wanted in settings(node, segment.source) if (made := list(changes(node, wanted)))]
        tried = [(segment.trial(made), made) for made in ways]
        healing = [made for error, made in tried if segment.healed(error)]
        plain = grafts(segment)
        best = 0.98 if healing or any(segment.healed(segment.trial(p)) for p in plain) else 0.5
        if healing or plain:
            yield Suspicion(
                CODE, node.key, None, best, {"operator": node.op, "source_operators": [
                    n.op for n in segment.source.nodes][:12]},
                f"{node.label} ({node.op}) was fused of other operators than the source has, or with other parameters",
                [*sorted(healing, key=len)[:4], *plain])


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The attributes that follow from the source's nodes; the plain nodes."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Two operators fused into one, with another activation, scale or epsilon."""
    ways = [edit for pair in pairs(graph) for edit in _fusions(graph, pair, rng)]
    return [ways[int(rng.integers(len(ways)))]] if ways else None


def _fusions(graph: Graph, pair: Pair, rng: np.random.Generator) -> Iterator[Edit]:
    first, second = pair.first, pair.second
    part, scale = activation(second, graph), _scale(graph, pair)
    wrong = [w for w in _WRONG if part is not None and w.name != part.name]
    if part is not None and first.op in ("Conv", "Gemm"):
        op = f"Fused{first.op}"
        other = wrong[int(rng.integers(len(wrong)))]
        yield pair.fusing(graph, op, {**first.attrs, **other.attributes(op)})
    elif first.op == "MatMul" and scale is not None:
        yield pair.fusing(graph, "FusedMatMul", {"alpha": 1 / scale if rng.random() < 0.5 else scale**2})
    elif first.op == "Add" and second.op == "LayerNormalization" and second.input(0) == first.key:
        same = graph.shapes.get(first.input(0)) == graph.shapes.get(first.input(1)) == graph.shapes.get(first.key)
        if same and len(second.inputs) == 3 and second.attrs.get("axis", -1) in (-1, len(graph.shapes[first.key]) - 1):
            both = Pair(first, second, (*first.inputs, *second.inputs[1:]), {})
            yield both.fusing(graph, "SkipLayerNormalization", {"epsilon": float(rng.choice([0.1, 0.5]))})


def _scale(graph: Graph, pair: Pair) -> float | None:
    """The factor by which the second node multiplies or divides what the first makes; None where it does not."""
    if pair.second.op not in ("Mul", "Div") or pair.second.input(0) != pair.first.key:
        return None
    value = graph.constant(pair.second, 1)
    if value is None or value.size != 1 or value.ndim > 1 or float(value.flat[0]) in (0.0, 1.0):
        return None
    return 1 / float(value.flat[0]) if pair.second.op == "Div" else float(value.flat[0])


FAULT = FaultType(CODE, "Operators fused wrongly", "CG", detect, propose, inject)
