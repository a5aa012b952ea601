"""Any other attribute of a layer differs from its twin's.

*What goes wrong*
A hyper-parameter that has no entry of its own is dropped or misread: alpha and beta of Gemm, p of LpPool, the order of
a CumSum.

*How it shows*
Canonical attributes of twins differ, and taking over the source's lowers the segment's error.

*Repair*
Take over the source's attributes: one, the node's, all of the segment.

*When not to apply*
A more specific fault type explains the attribute, or the difference changes nothing.

*Seen in*
tvm#18750, rten PR#1414
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical
from fetafix.graph.compare import assign
from fetafix.graph.segment import Segment
from fetafix.graph.settings import Setting, settings
from fetafix.ir import Graph

CODE = "lh-attribute"
_AXES = {"axis", "axes"}
_WINDOW = {"pads", "dilations", "strides", "kernel_shape", "group"}
_POOL = _WINDOW | {"ceil_mode"}
_OWN_ENTRY: Mapping[str, set[str]] = {
    "Conv": _WINDOW, "ConvTranspose": _WINDOW | {"output_padding"}, "MaxPool": _POOL, "LpPool": _POOL,
    "AveragePool": _POOL | {"count_include_pad"}, "BatchNormalization": {"epsilon", "training_mode"},
    "LeakyRelu": {"alpha"}, "Elu": {"alpha"}, "Celu": {"alpha"}, "Selu": {"alpha", "gamma"},
    "HardSigmoid": {"alpha", "beta"}, "LRN": {"size", "alpha", "beta", "bias"}, "Clip": {"min", "max"},
    "Relu": {"min", "max"}, "Softmax": {"axis", "flattened"}, "LogSoftmax": {"axis", "flattened"},
    "Resize": {"coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "antialias", "exclude_outside",
               "scales"},
    "GridSample": {"align_corners", "padding_mode", "mode"}, "AffineGrid": {"align_corners"},
    "InstanceNormalization": {"epsilon"}, "GroupNormalization": {"epsilon", "num_groups"}, "Pad": {"mode", "value"},
    "Transpose": {"perm"}, "Gemm": {"transB"}, "Reshape": {"shape", "allowzero"}, "DepthToSpace": {"mode"},
}
# What an injection writes, by operator and attribute: other values that converters are known to put in.
_WRONG: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("Gemm", "alpha"): (0.5,), ("ThresholdedRelu", "alpha"): (0.1,), ("LpPool", "p"): (1, 2),
}


def _others(setting: Setting) -> list[str]:
    known = _OWN_ENTRY.get(setting.target.op, set()) | _AXES
    return [n for n in setting.values if n not in known]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins that differ in attributes without an entry of their own, where the source's values help."""
    for setting in settings(segment):
        names = _others(setting)
        tried = {n: segment.trial(edits) for n in names if (edits := setting.adopt(segment, [n]))}
        tried["all"] = min((segment.trial(e) for e in setting.candidates(segment, names)), default=float("inf"))
        if not names or min(tried.values()) >= segment.error:
            continue
        first = min(names, key=lambda n: tried.get(n, float("inf")))
        ours, theirs = setting.values[first]
        ordered = [first, *(n for n in names if n != first)]
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, 0.5 if segment.healed(min(tried.values())) else 0.3,
            {n: [repr(v) for v in setting.values[n]] for n in names},
            f"{first} is {ours!r}, in the source {theirs!r}", (setting, ordered),
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The most helpful attribute alone, then more."""
    setting, names = suspicion.data
    return setting.candidates(segment, names)  # type: ignore[no-any-return]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A known wrong value for some attribute."""
    places = []
    for node in graph.nodes:
        values = canonical(node, graph)
        for (op, name), options in _WRONG.items():
            if node.op == op and name in values:
                usable = [v for v in options if v != values[name]]
                if isinstance(values[name], float):
                    usable = [v for v in usable if abs(v - values[name]) > 0.1 * abs(values[name])]
                places += [(node, name, v) for v in usable]
    if not places:
        return None
    node, name, value = places[int(rng.integers(len(places)))]
    return assign(node, graph, {name: value})


FAULT = FaultType(CODE, "Other hyper-parameter", "LH", detect, propose, inject)
