"""What storing numbers in few bits explains of a pair's difference, layer by layer, for the report.

Every target tensor that was recognised by value, fed with the source's activations, is off by a measured error;
rounding (see `graph.rounding`) explains a part of it. What is left is √(measured² − explained²): both are independent.
"""

from __future__ import annotations

import math
from collections import Counter

from fetafix.graph.align import Rounded
from fetafix.graph.rounding import quantised, unquantised
from fetafix.ir import Graph
from fetafix.localize import Located
from fetafix.quantisation import named_float
from fetafix.report import Finding, LayerRounding, Quantisation
from fetafix.workbench import Workbench


def quantisation(bench: Workbench, located: Located, repaired: bool = False) -> Quantisation | None:
    """What rounding explains of the target as it was found, or as the edits found leave it; None for float models."""
    target, source = quantised(bench.target), quantised(bench.source)
    if not target and not source:
        return None
    treatment = located.treatment
    guilty = treatment.remaining if repaired else tuple(s.diagnosis.site for s in treatment.steps)
    rows = [_layer(bench, r) for r in (treatment.last if repaired else treatment.first)]
    rows.sort(key=lambda r: (-r.unexplained, -r.measured))
    weights, activations = _formats(bench.target if target else bench.source)
    return Quantisation(
        of="both" if target and source else "target" if target else "source", weights=weights, activations=activations,
        within=not guilty and not treatment.remaining, layers=rows,
    )  # fmt: skip


def _layer(bench: Workbench, row: Rounded) -> LayerRounding:
    source, target = bench.names
    node = bench.target.producers.get(row.target)
    writer = unquantised(bench.target, node)[1] if node is not None and node.op == "DequantizeLinear" else None
    left = math.sqrt(max(0.0, row.measured**2 - row.explained**2))
    return LayerRounding(
        target_layer=target.layer(writer.key if writer is not None else row.target) or row.target,
        source_layer=source.layer(row.source) or row.source, rounds="activation" if writer is not None else "weight",
        explained=row.explained, measured=row.measured, unexplained=left,
    )  # fmt: skip


def _formats(graph: Graph) -> tuple[dict[str, int], dict[str, int]]:
    """How many constants and how many activations are stored in which codes."""
    weights, activations = Counter[str](), Counter[str]()
    for node in graph.nodes:
        grid = graph.grid_of(node) if node.op in ("QuantizeLinear", "DequantizeLinear") else None
        if grid is None:
            continue
        if graph.fixed(node.key):
            weights[str(grid.dtype)] += 1
        elif node.op == "QuantizeLinear":
            activations[str(grid.dtype)] += 1
    return dict(sorted(weights.items())), dict(sorted(activations.items()))


def width(found: Quantisation) -> str:
    """What the numbers are stored in, in words: "int8"."""
    formats = found.activations or {k: n for k, n in found.weights.items() if k != "int32"} or found.weights
    return max(formats, key=lambda k: formats[k], default="integer")


def words(found: Quantisation) -> str:
    """The sentence for a pair that differs, but in no layer by more than is explained."""
    whose = "the source's" if found.of == "source" else "its"
    return f"no fault: every layer differs by no more than {whose} {width(found)} numbers explain"


def misnamed(bench: Workbench, found: Quantisation | None) -> list[Finding]:
    """The finding that a file that calls itself a float model holds weights in codes; [] where that is not so."""
    path = bench.session.target_info.path
    if found is None or found.of == "source" or found.activations or not named_float(path):
        return []
    graph, names = bench.target, bench.names[1]
    held = [(n, g) for n in graph.nodes if (g := graph.grid(n.key)) is not None and g.dtype.itemsize == 1]
    layers = [names.layer(r.key) for n, _ in held for r, _ in graph.consumers.get(n.key, ())]
    if not layers:
        return []
    dtype = str(held[0][1].dtype)
    return [Finding(
        code="wb-precision", category="WB", title="Weights went through a coarser number format",
        target_layer=layers[0], evidence={"grid": dtype, "layers": layers}, confidence=0.9,
        explanation=f"The file is named a float model, but {len(layers)} of its layers hold {dtype} weights. What that "
        "rounding explains is told layer by layer; convert again without quantisation if floats are meant.",
    )]  # fmt: skip
