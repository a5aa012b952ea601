"""Dropout that still drops.

*What goes wrong*
A model exported in training mode keeps its Dropout at work: elements are zeroed at random and the rest is scaled up, at
every answer.

*How it shows*
The same input gets another answer at every run, while the source answers always alike. A Dropout has training_mode on,
or random numbers are drawn and multiplied into the activations.

*Repair*
Remove the node, or what joins the random numbers to the data and the rescaling with it; the repaired model answers
alike from run to run.

*When not to apply*
The source draws random numbers too: then there is nothing to agree with. A ratio of 0, and a Dropout before opset 12 or
outside of training mode, hand on what they get: a NO-OP. So is one in training mode where ONNX Runtime optimises the
graph, since it takes every Dropout out (1.31): only `--optimise none` and other runtimes show it.

*Seen in*
pytorch PR#16547
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.chance import chancy, masked, without
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "cg-dropout-live"
_BEHIND = frozenset({"Relu", "Gemm", "Flatten", "GlobalAveragePool", "Add", "MatMul", "Conv", "Gelu", "Clip", "Mul"})
_RATIOS = (0.1, 0.2, 0.5)


def detect(site: Any) -> Iterator[Suspicion]:
    """Random nodes that the source lacks: in a guilty segment, or anywhere where only the target's answers vary."""
    graph = site.full if isinstance(site, Segment) else site.target
    nodes = chancy(site.target)
    if not nodes or chancy(site.source) or (isinstance(site, Segment) and site.healed(site.error)):
        return
    varies = None if isinstance(site, Segment) else site.probes.get("target", {}).get("run_variation")
    if isinstance(site, Interface) and (len(nodes) > 1 or varies is None):
        return  # several are told one by one, each in its segment
    for node in nodes:
        data = [list(edits) for edits in without(graph, node)]
        evidence = {"operator": node.op} | ({} if varies is None else {"run_variation": varies})
        if data:
            yield Suspicion(
                CODE, node.key, None, 0.99, evidence,
                f"{node.label} draws random numbers: the same input gets another answer at every run", data,
                certain=True)


def propose(site: Any, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Take out the random node, or what joins its numbers to the data."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """What a layer makes, times a random mask, as a traced Dropout is written: ONNX Runtime spares a Dropout itself."""
    if graph.opset.get("", 1) < 12:
        return None
    able = [n for n in graph.nodes if n.op in _BEHIND and not n.domain and not graph.fixed(n.key)
            and n.key not in graph.output_names and _floats(graph, n.key)]
    if not able:
        return None
    node = able[int(rng.integers(len(able)))]
    return masked(graph, node, _RATIOS[int(rng.integers(len(_RATIOS)))])


def _floats(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is a batch of several numbers, not a shape or an index."""
    dims = graph.shapes.get(tensor) or ()
    known = [d for d in dims[1:] if isinstance(d, int)]
    return len(dims) >= 2 and len(known) == len(dims) - 1 and int(np.prod(known)) > 1


FAULT = FaultType(CODE, "Dropout still at work", "CG", detect, propose, inject, scope="both")
