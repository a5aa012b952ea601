"""An operator exchanged for a similar one.

*What goes wrong*
A backend lacks an operator and takes its neighbour, or a table of operators is off by a row: HardSwish becomes
HardSigmoid, MaxPool AveragePool, LeakyRelu Relu.

*How it shows*
Between the same anchors one operator of a family stands for another; shapes are the same, the output's range is not.

*Repair*
The target's node becomes the source's operator, with its attributes and constants.

*When not to apply*
Two spellings of one function: Relu and Clip(0, ∞), GlobalAveragePool and ReduceMean.

*Seen in*
onnxruntime-qnn PR#392: top-1 0.1% instead of 67.3%
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import best, in_target_terms, sureness
from fetafix.graph.segment import Segment
from fetafix.graph.twins import layout
from fetafix.graph.units import ACTIVATIONS
from fetafix.ir import Graph, Node

CODE = "cg-op-substitution"
FAMILIES: tuple[frozenset[str], ...] = (
    ACTIVATIONS, frozenset({"MaxPool", "AveragePool", "LpPool"}),
    frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}),
    frozenset({"Softmax", "LogSoftmax", "Hardmax", "Sigmoid"}),
    frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Mean", "Sum"}),
    frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceProd"}),
    frozenset({"And", "Or", "Xor"}), frozenset({"Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"}),
    frozenset({"Floor", "Ceil", "Round"}), frozenset({"ArgMax", "ArgMin"}),
)
_INJECTED = {"HardSwish": "HardSigmoid", "MaxPool": "AveragePool", "AveragePool": "MaxPool", "LeakyRelu": "Relu",
             "Elu": "Relu", "Relu": "Abs", "Sigmoid": "HardSigmoid", "Tanh": "Softsign",
             "GlobalAveragePool": "GlobalMaxPool", "Mul": "Add", "Add": "Max", "PRelu": "Relu"}
_POOLING = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode")


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Pairs operators of one family that only one side has, and tries the exchange."""
    if segment.healed(segment.error):
        return
    ours, theirs = (Counter(n.op for n in g.nodes) for g in (segment.target, segment.source))
    extra, lost = ours - theirs, theirs - ours
    for node in segment.target.nodes:
        for twin in segment.source.nodes:
            if not extra[node.op] or not lost[twin.op] or not any(node.op in f and twin.op in f for f in FAMILIES):
                continue
            error, found = best(segment, _exchanges(segment, node, twin))
            if found:
                yield Suspicion(
                    CODE, node.key, twin.key, sureness(segment, error),
                    {"target_op": node.op, "source_op": twin.op, "error_after": error},
                    f"{node.label} is {node.op} where the source has {twin.op}", found)


def _exchanges(segment: Segment, node: Node, twin: Node) -> Iterator[list[Edit]]:
    data = [t for t in twin.inputs if t and not segment.source.fixed(t)]
    own = [t for t in node.inputs if t and not segment.full.fixed(t)]
    if len(data) != len(own):
        gate = segment.source.producers.get(twin.key)
        if gate is None or len(data) != 2 or twin.op != "Mul" or len(own) != 1:
            return
    names = dict(zip(data, own, strict=False))
    made = in_target_terms(segment, twin, names, layout(segment, node, twin), segment.full, node)
    if made is not None:
        new, constants = made
        yield [ed.SetOperator(node.key, new.op, dict(new.attrs), new.inputs, new.domain, constants)]


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The exchange that detection tried."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One operator becomes its neighbour in the family."""
    able = [n for n in graph.nodes if n.op in _INJECTED and not n.domain and n.input(0)
            and (n.op not in ("Add", "Mul") or not any(graph.fixed(t) for t in n.inputs))]
    if not able:
        return None
    node = able[int(rng.integers(len(able)))]
    new = _INJECTED[node.op]
    attrs = {k: v for k, v in node.attrs.items() if k in _POOLING} if new.endswith("Pool") else {}
    inputs = node.inputs if new in ("Add", "Max") else node.inputs[:1]
    return [ed.SetOperator(node.key, new, attrs, inputs)]


FAULT = FaultType(CODE, "Operator exchanged for a similar one", "CG", detect, propose, inject)
