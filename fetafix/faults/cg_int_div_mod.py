"""An integer division or remainder rounds the other way for negative numbers.

*What goes wrong*
Python and torch's floor_divide round down, C and ONNX's Div towards zero; Mod takes its sign from the divisor, with
fmod=1 from the dividend. A converter writes the plain operator and leaves out the fix-up, or the flag.

*How it shows*
Only where a number is negative: −7 / 2 is −3 for −4, −7 mod 3 is 2 for −1. Relative positions are the usual place.

*Repair*
Turn fmod; write the division as (a − a mod b) / b, which rounds down, or as a plain Div.

*When not to apply*
NO-OP: no negative numbers. Floats: there Floor and Cast differ, which is cg-op-substitution.

*Seen in*
tensorflow-onnx#2174; ONNX Runtime: −7/2 = −3, Mod(−7, 3) = 2 and −1 with fmod=1
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, ReplaceSegment, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import sureness
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Graph, Node, Value

CODE = "cg-int-div-mod"
_DIVISIONS = frozenset({"Div", "Mod"})


def _floored(graph: Graph, node: Node, a: str, b: str) -> Edit:
    """A division of integers that rounds down: (a − a mod b) / b."""
    return _fragment(graph, node, a, b, ["Mod", "Sub", "Div"])


def _fragment(graph: Graph, node: Node, a: str, b: str, ops: list[str]) -> Edit:
    names: dict[str, tuple[str, str]] = {}
    for op in ops:
        label, out = like(graph, op, node)
        names[op] = (label, out if out not in [o for _, o in names.values()] else f"{out}_{op.lower()}")
    made, whole = [], a
    if "Mod" in ops:
        made.append(Node("Mod", (a, b), (names["Mod"][1],), {}, names["Mod"][0]))
        made.append(Node("Sub", (a, names["Mod"][1]), (names["Sub"][1],), {}, names["Sub"][0]))
        whole = names["Sub"][1]
    made.append(Node("Div", (whole, b), (names["Div"][1],), {}, names["Div"][0]))
    outputs = (Value(names["Div"][1], np.dtype(np.int64)),)
    return ReplaceSegment(node.key, Graph(tuple(made), {}, (), outputs, graph.opset), {a: a, b: b})


def _candidates(segment: Segment) -> Iterator[tuple[Node, str, list[Edit]]]:
    graph = segment.full
    for node in segment.target.nodes:
        if node.domain or len(node.inputs) != 2:
            continue
        if node.op == "Mod":
            yield node, "takes its sign from the other operand", [
                SetAttribute(node.key, "fmod", None if node.attrs.get("fmod") else 1)]
        dividend = graph.producers.get(node.input(0))
        if node.op == "Div" and not _rounds_down(graph, node):
            yield node, "rounds towards zero", [_floored(graph, node, *node.inputs)]
        elif node.op == "Div" and dividend is not None:
            yield node, "rounds down", [_fragment(graph, node, dividend.input(0), node.input(1), ["Div"])]


def _rounds_down(graph: Graph, node: Node) -> bool:
    """Whether a Div is the end of (a − a mod b) / b."""
    sub = graph.producers.get(node.input(0))
    mod = graph.producers.get(sub.input(1)) if sub is not None and sub.op == "Sub" else None
    return sub is not None and mod is not None and mod.op == "Mod" and mod.inputs == (sub.input(0), node.input(1))


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Divisions and remainders that the other rounding heals."""
    if segment.healed(segment.error) or not any(n.op in _DIVISIONS for n in segment.source.nodes):
        return
    partner = {t.key: s.key for t, s in twins(segment)}
    for node, how, edits in _candidates(segment):
        error = segment.trial(edits)
        if segment.healed(error):
            yield Suspicion(CODE, node.key, partner.get(node.key), sureness(segment, error, 0.97),
                            {"operator": node.op, "error_after": error}, f"{node.op} of integers {how}", [edits])


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The other rounding."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """fmod is turned, or the fix-up of a division that rounds down is left out."""
    able: list[Edit] = [SetAttribute(n.key, "fmod", None if n.attrs.get("fmod") else 1)
                        for n in graph.nodes if n.op == "Mod" and not n.domain]
    able += [_fragment(graph, n, graph.producers[n.input(0)].input(0), n.input(1), ["Div"])
             for n in graph.nodes if n.op == "Div" and _rounds_down(graph, n)]
    return [able[int(rng.integers(len(able)))]] if able else None


FAULT = FaultType(CODE, "Integers divided with the other rounding", "CG", detect, propose, inject)
