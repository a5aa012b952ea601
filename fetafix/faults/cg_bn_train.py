"""Batch normalisation left in training mode.

*What goes wrong*
A model exported while training normalises each batch with that batch's statistics instead of the learned ones.

*How it shows*
The answer for a sample depends on its batch peers. The node has training_mode = 1 (before opset 14: more than one
output).

*Repair*
training_mode off; the statistics outputs go with it.

*When not to apply*
The source's normalisation is in training mode too.

*Seen in*
onnxruntime#3873, #26584; pytorch#75252
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Graph, Node, Value

CODE = "cg-bn-train"


def training(node: Node, graph: Graph) -> bool:
    """Whether a node normalises with the statistics of its batch."""
    if node.op != "BatchNormalization" or node.domain:
        return False
    if graph.opset.get("", 1) >= 14:
        return bool(node.attrs.get("training_mode"))
    return len([o for o in node.outputs if o]) > 1


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Reads the mode of every BatchNormalization that the source does not train with."""
    if segment.healed(segment.error):
        return
    partner = {t.key: s for t, s in twins(segment)}
    for node in segment.target.nodes:
        twin = partner.get(node.key)
        if training(node, segment.full) and not (twin is not None and training(twin, segment.source)):
            yield Suspicion(
                CODE, node.key, twin.key if twin else None, 0.99, {"training_mode": 1, "outputs": len(node.outputs)},
                f"{node.label} normalises with the statistics of its batch, the source with the learned ones")


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Switch training off; before opset 14 the node is written anew with one output."""
    node = segment.full.node(str(suspicion.target))
    if segment.full.opset.get("", 1) >= 14:
        yield [ed.SetAttribute(node.key, "training_mode", None)]
        return
    value = Value(node.key, np.dtype(np.float32), segment.full.shapes.get(node.key))
    single = replace(node, outputs=node.outputs[:1])
    yield [ed.ReplaceSegment(node.key, Graph((single,), {}, (), (value,), segment.full.opset))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Switch one BatchNormalization to training mode (opset 14 and later)."""
    able = [n for n in graph.nodes if n.op == "BatchNormalization" and not n.domain]
    if not able or graph.opset.get("", 1) < 14:
        return None
    return [ed.SetAttribute(able[int(rng.integers(len(able)))].key, "training_mode", 1)]


FAULT = FaultType(CODE, "Batch normalisation in training mode", "CG", detect, propose, inject)
