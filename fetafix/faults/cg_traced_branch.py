"""One branch of a condition recorded as if it were the whole model.

*What goes wrong*
Tracing follows the example that it is given: of `if x.max() > 1: …` only the branch taken there is recorded.

*How it shows*
The target is right for inputs that take the recorded branch, and wrong for all others. The source has an If where the
target has what one of its branches computes.

*Repair*
The source's If takes the place of the recorded branch, with what decides it.

*When not to apply*
All inputs take the branch: on them nothing is wrong, and nothing is found. The target decides in another way that comes
to the same (Where, a gate of 0 and 1). An If that shapes alone decide.

*Seen in*
torch.jit.trace's warning of converting a tensor to a Python boolean: common knowledge, no thread found
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.conditions import BRANCHES, branch_of, conditions, data_decides
from fetafix.graph.graft import grafts
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "cg-traced-branch"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Looks for an If of the source where the target computes without one."""
    if segment.healed(segment.error) or conditions(segment.target):
        return
    for node in (n for n in conditions(segment.source) if data_decides(segment.source, n)):
        found = grafts(segment)
        if not found:
            return
        error = min(segment.trial(edits) for edits in found)
        sure = 0.98 if segment.healed(error) else 0.6 if error < 0.1 * segment.error else 0.3
        yield Suspicion(
            CODE, segment.goal.target, node.key, sure, {"condition": node.input(0), "error_after": error},
            f"the source decides by {node.label} between two branches, the target always takes one", found,
            certain=segment.healed(error))
        return


def propose(segment: Segment, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """The source's If, with what decides it."""
    yield from suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One branch of an If is all that is left of it."""
    able = [(n, b) for n in conditions(graph) for b in BRANCHES if branch_of(graph, n, b) is not None]
    if not able:
        return None
    node, branch = able[int(rng.integers(len(able)))]
    fragment = branch_of(graph, node, branch)
    assert fragment is not None
    return [ed.ReplaceSegment(next(o for o in node.outputs if o), fragment)]


FAULT = FaultType(CODE, "One branch recorded for all inputs", "CG", detect, propose, inject)
