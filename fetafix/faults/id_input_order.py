"""Inputs of one shape exchanged.

*What goes wrong*
A converter writes the inputs down in another order than it names them, or a runtime binds them by place: the attention
mask arrives as token types, the left image as the right one.

*How it shows*
Bound by name or place the models disagree; with the inputs exchanged they agree. Where other faults keep the outputs
apart, what reads an input first answers like what reads another one in the source.

*Repair*
What read one input reads the other; names and order stay.

*When not to apply*
Both inputs do the same to the model, as the operands of a sum: a NO-OP. Shapes or types differ: then no exchange is
possible without an error.

*Seen in*
tensorflow-onnx#926; onnx2tf#650
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion, layout_blind_error
from fetafix.graph.inputreaders import Claim, answers
from fetafix.ir import Array, Graph

CODE = "id-input-order"
_AT_MOST = 5
_SAME = 1e-4


def detect(site: Interface) -> Iterator[Suspicion]:
    """Looks for the only order of the inputs in which the outputs agree, or else what reads them first."""
    names = list(site.inputs)
    if not 2 <= len(names) <= _AT_MOST or site.healed(site.error):
        return
    for order in list(permutations(names))[1:]:
        if any(not _alike(site.target_feeds[a], site.target_feeds[b]) for a, b in zip(names, order, strict=True)):
            continue
        moved = {a: b for a, b in zip(names, order, strict=True) if a != b}
        error = site.trial((), {**site.target_feeds, **{a: site.target_feeds[b] for a, b in moved.items()}})
        whole = site.healed(error) or error < 0.02 * min(site.error, 1.0)
        if whole or _readers_say(site, moved):
            told = ", ".join(f"input {a} takes what is the source's {site.inputs[b]}" for a, b in moved.items())
            evidence = {"holds": {a: site.inputs[b] for a, b in moved.items()}, "error_after": error}
            readers = [n.key for n, _ in site.target.consumers.get(next(iter(moved)), ())]
            yield Suspicion(CODE, next(iter(readers), None), None, 0.97 if whole else 0.93, evidence, told,
                            Claim(moved, 0.0))
            return


def _alike(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _readers_say(site: Interface, moved: Mapping[str, str]) -> bool:
    """Whether what reads each moved input answers like what reads the other in the source, and not like its own."""
    try:
        for name, other in moved.items():
            value = site.source_feeds[site.inputs[other]]
            ours = answers(site.target, name, site.target_feeds[other])
            right, wrong = (answers(site.source, site.inputs[n], value) for n in (other, name))
            if not _agree(ours, right) or _agree(ours, wrong):
                return False
    except FetafixError:
        return False
    return True


def _agree(ours: Sequence[Array], theirs: Sequence[Array]) -> bool:
    return any(layout_blind_error(a, b) <= _SAME for a in ours for b in theirs)


def propose(site: Interface, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """What reads one input reads the other."""
    yield exchanged(site.target, suspicion.data.moved)


def exchanged(graph: Graph, moved: Mapping[str, str]) -> list[Edit]:
    """Edits after which the input `moved[a]` goes where the input `a` went."""
    return [ed.Rewire(node.key, slot, b) for a, b in moved.items()
            for node, slot in graph.consumers.get(a, ()) if slot >= 0]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Exchange two inputs of one shape and type."""
    able = [(a.name, b.name) for i, a in enumerate(graph.inputs) for b in graph.inputs[i + 1:]
            if a.dtype == b.dtype and a.shape is not None and b.shape is not None and a.shape[1:] == b.shape[1:]
            and all(slot >= 0 for v in (a, b) for _, slot in graph.consumers.get(v.name, ()))]
    if not able:
        return None
    a, b = able[int(rng.integers(len(able)))]
    return exchanged(graph, {a: b, b: a})


FAULT = FaultType(CODE, "Inputs exchanged", "ID", detect, propose, inject, scope="interface")
