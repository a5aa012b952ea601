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

from fetafix.edits import Edit, InsertNode, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import sureness
from fetafix.graph.naming import like
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.graph.writer import Writer
from fetafix.ir import Graph, Node

CODE = "cg-int-div-mod"
_DIVISIONS = frozenset({"Div", "Mod"})


def _floored(graph: Graph, node: Node) -> list[Edit]:
    """A division of integers that rounds down: (a − a mod b) / b; a remainder that is there already is read."""
    a, edits = node.input(0), list[Edit]()
    mod = next((n for n in graph.nodes if n.op == "Mod" and not n.attrs.get("fmod") and n.input(0) == a
                and _equal(graph, n.input(1), node.input(1))), None)
    if mod is None:
        label, out = like(graph, "Mod", node)
        mod = Node("Mod", node.inputs, (out,), {}, label)
        edits.append(InsertNode(a, mod, consumers=()))
    label, out = like(graph, "Sub", node)
    out = out if out != mod.key else f"{out}_sub"
    return [*edits, InsertNode(a, Node("Sub", (a, mod.key), (out,), {}, label), consumers=((node.key, 0),))]


def _plain(graph: Graph, node: Node) -> Edit:
    """The Div at the end of such a division, of a itself: it rounds towards zero."""
    w = Writer(graph, node)
    return w.replacing(node.key, w.op("Div", graph.producers[node.input(0)].input(0), node.input(1)))


def _candidates(segment: Segment) -> Iterator[tuple[Node, str, list[Edit]]]:
    graph = segment.full
    for node in segment.target.nodes:
        if node.domain or len(node.inputs) != 2:
            continue
        if node.op == "Mod":
            yield node, "takes its sign from the other operand", [
                SetAttribute(node.key, "fmod", None if node.attrs.get("fmod") else 1)]
        if node.op == "Div" and not _rounds_down(graph, node):
            yield node, "rounds towards zero", _floored(graph, node)
        elif node.op == "Div":
            yield node, "rounds down", [_plain(graph, node)]


def _rounds_down(graph: Graph, node: Node) -> bool:
    """Whether a Div is the end of (a − a mod b) / b."""
    sub = graph.producers.get(node.input(0))
    mod = graph.producers.get(sub.input(1)) if sub is not None and sub.op == "Sub" else None
    if sub is None or mod is None or mod.op != "Mod" or mod.input(0) != sub.input(0):
        return False
    return _equal(graph, mod.input(1), node.input(1))


def _equal(graph: Graph, a: str, b: str) -> bool:
    """Whether two tensors are one, or constants of one value."""
    x, y = graph.value_of(a), graph.value_of(b)
    return a == b or (x is not None and y is not None and np.array_equal(x, y))


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
    """The flag fmod is turned, or the fix-up of a division that rounds down is left out."""
    able: list[Edit] = [SetAttribute(n.key, "fmod", None if n.attrs.get("fmod") else 1)
                        for n in graph.nodes if n.op == "Mod" and not n.domain]
    able += [_plain(graph, n) for n in graph.nodes if n.op == "Div" and _rounds_down(graph, n)]
    return [able[int(rng.integers(len(able)))]] if able else None


FAULT = FaultType(CODE, "Integers divided with the other rounding", "CG", detect, propose, inject)
