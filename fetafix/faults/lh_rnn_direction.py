"""A recurrent layer runs the other way, or its outputs stand in the other order.

*What goes wrong*
`direction` is dropped, so that a reverse layer runs forward; the outputs of a reverse layer are not turned back (Keras
hands them over in the order of computing, ONNX in the order of time) or turned twice; the two halves of a bidirectional
layer are swapped.

*How it shows*
Outputs agree after a reversal of time, or with the halves exchanged; the last state belongs to the other end.

*Repair*
The direction; the reversal of time put in or taken out; the weights of the halves exchanged.

*When not to apply*
NO-OP: a single step. A reverse layer against a forward one between two reversals is the same function.

*Seen in*
keras-onnx#523
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, InsertNode, RemoveNode, SetAttribute, SetInput
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import shape
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.gates import RECURRENT, SLOTS, layers
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.parameters import Parameter, differing
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.graph.timeflips import flips, put_back
from fetafix.graph.weights import close
from fetafix.ir import Array, Graph, Node

CODE = "lh-rnn-direction"
_BOTH = "bidirectional"


def _swapped(p: Parameter) -> bool:
    same = p.value is not None and p.value.shape == p.reference.shape and p.value.shape[0] == 2
    return same and p.slot in (*SLOTS, 5, 6) and close(np.flip(np.asarray(p.value), 0), p.reference, p.noise)


def _claims(segment: Segment) -> Iterator[tuple[Node, str | None, str, list[list[Edit]]]]:
    """(node, its twin, what is wrong, edits that would mend it)."""
    for setting in settings(segment):
        if setting.target.op in RECURRENT and "direction" in setting.values:
            ours, theirs = setting.values["direction"]
            yield setting.target, setting.source.key, f"runs {ours}, in the source {theirs}", list(
                setting.candidates(segment, ["direction"]))
    wrong = [p for p in differing(segment) if p.node.op in RECURRENT]
    for key in dict.fromkeys(p.node.key for p in wrong):
        own = [p for p in wrong if p.node.key == key and _swapped(p)]
        if own:
            edits = [p.edit(segment.full) for p in own]
            yield own[0].node, own[0].twin.key, "has the weights of its two directions exchanged", [edits]
    ours, theirs = flips(segment.target), flips(segment.source)
    for node in ours if len(ours) > len(theirs) else []:
        yield node, None, "turns time back, which the source does not", [[RemoveNode(node.key)]]
    for twin in theirs if len(theirs) > len(ours) else []:
        for node, edits in put_back(segment, twin):
            yield node, twin.key, "does not turn time back as the source does", [edits]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Directions, halves and reversals of time that heal when they are as in the source."""
    if segment.healed(segment.error):
        return
    for node, twin, said, edits in _claims(segment):
        error, found = best(segment, edits)
        if found and error < segment.error:
            yield Suspicion(CODE, node.key, twin, sureness(segment, error, 0.985), {"error_after": error},
                            f"{node.label} {said}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """What detection tried."""
    yield from suspicion.data


def _halves(graph: Graph, node: Node) -> list[Edit]:
    held: list[tuple[int, Array]] = [(s, w) for s in SLOTS if (w := graph.constant(node, s)) is not None]
    return [SetInput(node.key, s, np.ascontiguousarray(np.flip(w, 0))) for s, w in held]


def _turned(graph: Graph, node: Node) -> list[Edit]:
    """The outputs of a layer in the opposite order of time."""
    name, numbers = tensor_like(graph, "turn", node), [(-1,), (np.iinfo(np.int64).min,), (0,), (-1,)]
    names = [f"{name}_{i}" for i in range(4)]
    made = Node("Slice", (node.key, *names), (like(graph, "Slice", node)[1],), {}, like(graph, "Slice", node)[0])
    return [InsertNode(node.key, made, {n: np.array(v, np.int64) for n, v in zip(names, numbers, strict=True)})]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The direction is turned, the halves are exchanged, the outputs turned or not turned back."""
    able: list[list[Edit]] = [[RemoveNode(n.key)] for n in flips(graph)]
    for node in layers(graph):
        dims, way = shape(graph, node.input(0)), node.attrs.get("direction", "forward")
        if dims is None or dims[1 if node.attrs.get("layout") else 0] < 2:
            continue
        if way == _BOTH:
            able.append(_halves(graph, node))
        else:
            able.append([SetAttribute(node.key, "direction", "reverse" if way == "forward" else None)])
            if node.outputs[0] and graph.consumers.get(node.outputs[0]) and way == "reverse":
                able.append(_turned(graph, node))
    return able[int(rng.integers(len(able)))] if able else None


FAULT = FaultType(CODE, "Recurrent layer runs the other way", "LH", detect, propose, inject)
