"""Outputs of one shape exchanged.

*What goes wrong*
A converter writes the outputs down in another order than it names them: boxes under the name of scores, one head's
logits under another's.

*How it shows*
Bound by name or place the outputs disagree; bound by content they all agree.

*Repair*
Each output name gets the tensor that holds the source's output of that name.

*When not to apply*
The order of the outputs differs and their names tell which is which; or not all of them agree in any order.

*Seen in*
tensorflow#33303, #51858, #55242
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion, layout_blind_error
from fetafix.graph.naming import like
from fetafix.ir import Graph, Node

CODE = "op-output-order"
_AT_MOST = 6


def detect(site: Interface) -> Iterator[Suspicion]:
    """Looks for the only order of the bound outputs in which all agree."""
    names = list(site.outputs)
    if not 2 <= len(names) <= _AT_MOST or site.healed(site.error):
        return
    try:
        values = site.run_target(site.target, site.target_feeds)
    except FetafixError:
        return
    errors = {(t, s): layout_blind_error(values.get(t), site.expected[site.outputs[s]]) for t in names for s in names}
    noise = max(site.tolerance, min(1e-3, 0.01 * site.error))
    for order in list(permutations(names))[1:]:
        total = max(errors[t, s] for t, s in zip(order, names, strict=True))
        if total <= noise:
            moved = {s: t for t, s in zip(order, names, strict=True) if t != s}
            yield Suspicion(
                CODE, next(iter(moved)), None, 0.96,
                {"holds": {t: site.outputs[s] for s, t in moved.items()}, "error_after": total},
                ", ".join(f"output {t} holds the source's {site.outputs[s]}" for s, t in moved.items()), moved)
            return


def propose(site: Interface, suspicion: Suspicion) -> Iterator[Sequence[Edit]]:
    """Give each name the tensor with its content: by the Identity nodes that make the outputs, or by new ones."""
    moved: Mapping[str, str] = suspicion.data
    makers = {name: site.target.producers.get(name) for name in moved}
    if all(m is not None and m.op == "Identity" for m in makers.values()):
        yield [ed.Rewire(name, 0, m.input(0)) for name, held in moved.items() if (m := makers[held]) is not None]
    yield exchanged(site.target, moved)


def exchanged(graph: Graph, moved: Mapping[str, str]) -> list[Edit]:
    """Edits after which each output `name` holds what output `moved[name]` held; inner readers keep what they read."""
    edits: list[Edit] = []
    inner: dict[str, str] = {}
    for name in moved:
        current = ed.apply(graph, edits)
        label, _ = like(current, "Identity", current.producers.get(name))
        edits.append(ed.InsertNode(name, Node("Identity", (name,), (ed.fresh(current, f"{name}_out"),), {}, label)))
        inner[name] = ed.apply(graph, edits).node(name).input(0)
    edits.extend(ed.Rewire(name, 0, inner[held]) for name, held in moved.items())
    readers = [(n.key, slot, name) for name in moved for n, slot in graph.consumers.get(name, ()) if slot >= 0]
    edits.extend(ed.Rewire(key, slot, inner[name]) for key, slot, name in readers)
    return edits


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Exchange two outputs of one shape."""
    pairs = [(a, b) for a, b in combinations(graph.output_names, 2)
             if graph.shapes.get(a) is not None and graph.shapes.get(a) == graph.shapes.get(b)
             and a in graph.producers and b in graph.producers]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    return exchanged(graph, {a: b, b: a})


FAULT = FaultType(CODE, "Outputs exchanged", "OP", detect, propose, inject, scope="interface")
