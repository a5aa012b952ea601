"""GELU by the error function became the tanh approximation, or the other way round.

*What goes wrong*
The attribute `approximate` is dropped, or a backend knows one form only and spells that out.

*How it shows*
Values differ by at most 5e-4, most about |x| = 2; labels seldom change.

*Repair*
The source's form: the attribute, or the Erf or Tanh in the middle of what is spelled out.

*When not to apply*
Two spellings of one form, or the operator against its spelling: they agree to the last bits.

*Seen in*
tvm#18750
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.counterparts import sureness
from fetafix.graph.gelus import ERF, TANH, Gelu, forms, gelus
from fetafix.graph.segment import Segment
from fetafix.ir import Graph

CODE = "lh-gelu"
_SAID = {ERF: "the error function", TANH: "the tanh approximation"}


def _changed(segment: Segment, own: Iterable[Gelu], form: str) -> list[Edit]:
    edits = [g.edit(segment.full, form) for g in own if g.form != form]
    return [e for e in edits if e is not None]


def detect(segment: Segment) -> Iterator[Suspicion]:
    """GELUs of the target in the form that the source does not use."""
    theirs = forms(segment.source)
    inside = {n.key for n in segment.target.nodes}
    own = [g for g in gelus(segment.full) if g.node.key in inside] if theirs else []
    for ours in own:
        form, twin = next((t for t in theirs if t[0] != ours.form), (ours.form, ours.node))
        edits = _changed(segment, [ours], form)
        if not edits or segment.healed(segment.error):
            continue
        error = segment.trial(edits)
        if error < segment.error:
            yield Suspicion(CODE, ours.node.key, twin.key, sureness(segment, error, 0.97),
                            {"form": _SAID[ours.form], "source_form": _SAID[form], "error_after": error},
                            f"GELU by {_SAID[ours.form]}; the source's is by {_SAID[form]}", (own, form, edits))


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's form here; then wherever the segment has a GELU."""
    own, form, edits = suspicion.data
    yield edits
    every = _changed(segment, own, form)
    if len(every) > 1:
        yield every


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """One GELU in the other form."""
    places = [e for g in gelus(graph) if (e := g.edit(graph, TANH if g.form == ERF else ERF)) is not None]
    return [places[int(rng.integers(len(places)))]] if places else None


FAULT = FaultType(CODE, "GELU in the other form", "LH", detect, propose, inject)
