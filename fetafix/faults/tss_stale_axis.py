"""An operator kept its axis while the layout around it changed.

*What goes wrong*
A converter turns the maps (NCHW to NHWC or back) and forgets to renumber the axis of a Concat, Split, Gather, CumSum,
ArgMax, LayerNormalization or the axes of a reduction.

*How it shows*
Only where sizes match can this pass unnoticed: shapes are right, the axis of the twins differs after the layout is
taken into account, and often it is the source's number as it was.

*Repair*
The source's axis, renumbered for the target's layout.

*When not to apply*
The same axis under another number (−1 against the last; NHWC against NCHW). A Softmax (lh-softmax-axis), the axis of
quantisation scales (qp-scale-axis), a BatchNormalization (it has no axis: the Transpose before it is wrong,
tss-equal-dims). NO-OP: both axes have size 1, or the values do not vary along them.

*Seen in*
pytorch2keras#131, onnx2keras#131
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.compare import assign
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "tss-stale-axis"
_ELSEWHERE = frozenset({"Softmax", "LogSoftmax", "Hardmax", "QuantizeLinear", "DequantizeLinear", "Flatten"})


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with another axis, or other axes."""
    for setting in settings(segment):
        name = next((n for n in ("axis", "axes") if n in setting.values), None)
        if name is None or setting.target.op in _ELSEWHERE or setting.target.op != setting.source.op:
            continue
        ours, theirs = setting.values[name]
        if ours is None or theirs is None:
            continue
        stale = canonical(setting.source, segment.source).get(name) == ours
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, [name]),
            {name: ours, f"source_{name}": theirs, "stale": stale},
            f"{setting.target.op} works along {name} {ours}; in this layout the source's is {theirs}"
            + (", whose number was kept" if stale else ""), (setting, name))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's axis in the target's layout."""
    setting, name = suspicion.data
    return setting.candidates(segment, [name])  # type: ignore[no-any-return]


def _result(node: Node, graph: Graph, dims: Sequence[int], axes: Sequence[int]) -> list[int] | None:
    """The output's shape with other axes; None where that cannot be told."""
    if node.op == "LpNormalization":
        return list(dims)
    if node.op == "Gather":
        indices = shape(graph, node.input(1))
        return None if indices is None else [*dims[:axes[0]], *indices, *dims[axes[0] + 1:]]
    if node.op == "Concat":  # of equal shapes, read by what only counts elements
        hidden = all(r.op in ("Flatten", "Reshape") for r, _ in graph.consumers.get(node.key, ()))
        same = all(shape(graph, t) == tuple(dims) for t in node.inputs)
        return [] if hidden and same and node.key not in graph.output_names else None
    if not node.op.startswith(("Reduce", "Arg")):
        return None
    kept = node.attrs.get("keepdims", 1)
    return [1 if i in axes else d for i, d in enumerate(dims) if kept or i not in axes]


def _others(node: Node, graph: Graph) -> list[dict[str, Any]]:
    """Other axes that leave the output as it was in shape, or in size where its readers only count elements."""
    values, dims = canonical(node, graph), shape(graph, node.input(0))
    name = next((n for n in ("axes", "axis") if values.get(n) is not None), None)
    if dims is None or name is None or node.op == "CumSum":
        return []
    old = values[name] if name == "axes" else (values[name],)
    free = [i for i in range(1, len(dims)) if dims[i] > 1]
    wanted = _result(node, graph, dims, old)
    if wanted is None or not set(old) <= set(free):
        return []
    options = [c for c in combinations(free, len(old)) if c != old and _result(node, graph, dims, c) == wanted]
    return [{name: c if name == "axes" else c[0]} for c in options]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another axis of the same size, so that nothing but the values changes."""
    places = [edits for n in graph.nodes for wanted in _others(n, graph) if (edits := assign(n, graph, wanted))]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Axis of another layout", "TSS", detect, propose, inject)
