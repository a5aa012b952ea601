"""Elu, Celu or Selu bend negative values with another α (or γ).

*What goes wrong*
alpha is dropped and the default 1 holds, Selu's constants are those of an Elu; where a framework's operator has no
alpha (TensorFlow), the factor beside it is lost or another.

*How it shows*
Only outputs of negative inputs are wrong (all of them for Selu's gamma); `alpha` or `gamma` of the twins differs, or a
factor in a spelled-out Elu.

*Repair*
Take over the source's values; in a spelled-out form, as its factor.

*When not to apply*
A slope without exponential (lh-leaky-alpha); another operator in the activation's place (cg-op-substitution).

*Seen in*
keras-onnx#584
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion, setting_claim, setting_edits
from fetafix.graph.attributes import canonical
from fetafix.graph.scalars import Retried, retried
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph

CODE = "lh-elu-alpha"
_EXPONENTIAL = frozenset({"Elu", "Celu", "Selu"})
_NAMES = ("alpha", "gamma")
_SELU = (1.67326, 1.0507)
_WRONG: dict[str, dict[str, tuple[float, ...]]] = {
    "Elu": {"alpha": (1.0, 0.5, 0.3, 0.1)}, "Celu": {"alpha": (1.0, 0.5, 0.3)},
    "Selu": {"alpha": (1.0, 0.5), "gamma": (1.0,)},
}


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other constants; else a factor beside an exponential activation that another value heals."""
    for setting in settings(segment):
        same = setting.target.op == setting.source.op
        if same and setting.target.op in _EXPONENTIAL and set(_NAMES) & set(setting.values):
            yield setting_claim(CODE, segment, setting, _NAMES)
            return
    found = retried(segment, _EXPONENTIAL, _NAMES, _SELU)
    if found is not None:
        yield Suspicion(CODE, found.node, found.twin, 0.95, {"value": found.old, "source_value": found.new},
                        f"the factor for negative values is {found.old:g}, in the source {found.new:g}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's constants."""
    data = suspicion.data
    return [data.edits] if isinstance(data, Retried) else setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Another framework's default for one of the constants."""
    places = [(n, name, v) for n in graph.nodes if n.op in _EXPONENTIAL and not n.domain
              for name, values in _WRONG[n.op].items() for v in values
              if abs(v - canonical(n, graph)[name]) > 0.04 * abs(v)]
    if not places:
        return None
    node, name, value = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, name, value)]


FAULT = FaultType(CODE, "Wrong α of an exponential activation", "LH", detect, propose, inject)
