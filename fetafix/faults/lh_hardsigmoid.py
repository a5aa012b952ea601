"""A HardSigmoid or HardSwish has another slope.

*What goes wrong*
ONNX and Keras 2 mean 0.2·x + 0.5, torch and Keras 3 x/6 + 0.5: the attribute is dropped, or the other framework's
operator taken as if it were the same.

*How it shows*
The linear zone is off, the saturated ends agree. `alpha` or `beta` of the twins differs; in a spelled-out form
(Mul, Add, Clip; x · HardSigmoid(x)) one of its numbers.

*Repair*
Take over the source's numbers.

*When not to apply*
HardSwish against HardSigmoid without the factor x is cg-op-substitution. Spelled-out forms of equal numbers.

*Seen in*
ncnn#2641
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

CODE = "lh-hardsigmoid"
_NAMES = ("alpha", "beta")
_HARD = frozenset({"HardSigmoid", "HardSwish"})
_SLOPES = (1 / 6, 0.2)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """HardSigmoid twins with other numbers; else a number of either form that heals."""
    for setting in settings(segment):
        if setting.target.op == setting.source.op == "HardSigmoid":
            yield setting_claim(CODE, segment, setting, _NAMES)
            return
    found = retried(segment, _HARD, _NAMES, (*_SLOPES, *(1 / s for s in _SLOPES)))
    if found is not None:
        yield Suspicion(CODE, found.node, found.twin, 0.95, {"value": found.old, "source_value": found.new},
                        f"the linear zone has {found.old:g} where the source's function has {found.new:g}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's numbers."""
    data = suspicion.data
    return [data.edits] if isinstance(data, Retried) else setting_edits(segment, suspicion)


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The other framework's slope."""
    places = [(n, s) for n in graph.nodes if n.op == "HardSigmoid" and not n.domain for s in _SLOPES
              if abs(s - canonical(n, graph)["alpha"]) > 0.01]
    if not places:
        return None
    node, slope = places[int(rng.integers(len(places)))]
    return [SetAttribute(node.key, "alpha", slope)]


FAULT = FaultType(CODE, "Wrong HardSigmoid slope", "LH", detect, propose, inject)
