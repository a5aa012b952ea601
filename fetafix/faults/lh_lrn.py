"""A local response normalisation works with another size, α, β or bias.

*What goes wrong*
TensorFlow and Caffe's radius counts one side (size = 2r + 1); ONNX and Caffe divide α by the size, TensorFlow does
not; bias is 1 in ONNX and torch, 2 in AlexNet.

*How it shows*
A smooth rescaling everywhere. `size`, `alpha`, `beta` or `bias` of the twins differs; in a spelled-out form (squares,
average, Mul, Add, Pow) one of its numbers.

*Repair*
Take over the source's values.

*When not to apply*
α and size written for another convention, where α/size is the same.

*Seen in*
tensorflow-onnx PR#602
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical
from fetafix.graph.responses import spelled
from fetafix.graph.scalars import Retried, retried, scalars
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-lrn"
_NAMES = ("size", "alpha", "beta", "bias")
_NUMBERS = _NAMES[1:]
_SURER = 1.02


def detect(segment: Segment) -> Iterator[Suspicion]:
    """LRN twins that differ; else the window or a number of a spelled-out form that heals."""
    apart = spelled(segment.full) if not segment.healed(segment.error) else frozenset[str]()
    for setting in settings(segment):
        if setting.target.op == setting.source.op == "LRN":
            yield setting_claim(CODE, segment, setting, setting.helpful(segment, _NAMES))
            return
        if setting.target.op == "AveragePool" and setting.target.key in apart:
            yield setting_claim(CODE, segment, setting, ["kernel_shape", "pads"], _SURER)
            return
    found = retried(segment, frozenset({"LRN"}), _NUMBERS, _scaled(segment), apart)
    if found is not None:
        yield Suspicion(CODE, found.node, found.twin, 0.95, {"value": found.old, "source_value": found.new},
                        f"the normalisation has {found.old:g} where the source has {found.new:g}", found)


def _scaled(segment: Segment) -> list[float]:
    """α as other conventions write it: times and by the size."""
    found = []
    for graph in (segment.source, segment.target):
        for node in graph.nodes:
            if node.op == "LRN":
                values = canonical(node, graph)
                found += [values["alpha"] / values["size"], values["alpha"] * values["size"]]
    return found


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's values, the most helpful one first."""
    data = suspicion.data
    return [data.edits] if isinstance(data, Retried) else setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """α times or by the size, the radius for the size, or another bias."""
    places: list[Edit] = []
    for node in graph.nodes:
        if node.op == "LRN" and not node.domain:
            values = canonical(node, graph)
            size, alpha, bias = int(values["size"]), float(values["alpha"]), float(values["bias"])
            places += [SetAttribute(node.key, "alpha", alpha * size), SetAttribute(node.key, "alpha", alpha / size)]
            places += [SetAttribute(node.key, "size", size // 2 + 1)] if size > 2 and size // 2 % 2 == 0 else []
            places.append(SetAttribute(node.key, "bias", 2.0 if bias < 1.5 else 1.0))
    apart = spelled(graph)
    for number in scalars(graph, (), ()):
        if number.node.key in apart and number.node.op == "Mul":
            places += [number.edit(graph, number.value * 5), number.edit(graph, number.value / 5)]
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "Wrong local response normalisation", "LH", detect, propose, inject)
