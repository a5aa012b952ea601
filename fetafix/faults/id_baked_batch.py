"""The batch size of the example that a model was traced with is baked into it.

*What goes wrong*
Tracing records `x.view(x.shape[0], -1)` as a Reshape to [1, −1]: right for one sample, wrong or failing for more.

*How it shows*
The target is right on each sample alone, and fails, mixes samples or returns another shape on two or three at once;
constants with the batch size in front feed Reshape or Expand.

*Repair*
0 (copy the dimension) in place of the baked size, or −1 with the other dimensions written out; the declared batch is
opened where it was fixed.

*When not to apply*
The target declares a fixed batch: then it never promised more, and agrees where it is asked. Normalisation in
training mode depends on its batch too, but no constant does (cg-bn-train).

*Seen in*
pytorch#157621, #77410, #69605
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.batch import bakeable, baked
from fetafix.graph.constants import constant
from fetafix.graph.naming import tensor_like
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph

CODE = "id-baked-batch"


def _inconsistent(site: Interface, edits: Sequence[Edit], feeds: Mapping[str, Array]) -> float:
    """Largest relative error of a batch's outputs against those of its samples one by one; inf where it fails."""
    try:
        graph = ed.apply(site.target, edits)
        size = min(len(v) for v in feeds.values())
        singles = [site.run_target(graph, {k: v[i:i + 1] for k, v in feeds.items()}) for i in range(size)]
        batch = site.run_target(graph, feeds)
        return max(relative_error(batch[k], np.concatenate([s[k] for s in singles])) for k in batch)
    except (FetafixError, ValueError):
        return float("inf")


def _batch(site: Interface) -> dict[str, Array]:
    """Two or three different samples for each input."""
    feeds = {k: v[:3] for k, v in site.target_feeds.items()}
    return {k: v if len(v) > 1 else np.concatenate([v, v[..., ::-1]]) for k, v in feeds.items()}


def detect(site: Interface) -> Iterator[Suspicion]:
    """Runs samples alone and together; where that differs, opens the baked constants until it does not."""
    declared = [v.shape[0] for v in site.target.inputs if v.shape]
    if any(len(v) < 1 or v.ndim < 2 for v in site.target_feeds.values()):
        return
    fixed = any(isinstance(d, int) and d < len(site.target_feeds.get(v.name, ()))
                for v, d in zip((v for v in site.target.inputs if v.shape), declared, strict=True))
    if any(isinstance(d, int) for d in declared) and not fixed:
        return
    suspects = list(baked(site.target))
    if not suspects:
        return
    feeds, noise = _batch(site), max(10 * site.tolerance, 1e-4)
    before = _inconsistent(site, (), feeds)
    places = suspects if before > noise else []
    opened: list[Edit] = [ed.SetInputShape(v.name, (None, *v.shape[1:])) for v in site.target.inputs
                          if v.shape and isinstance(v.shape[0], int)]
    for way in (0, -1):
        edits = {node.key: ways[way] for node, ways in places}
        if places and _inconsistent(site, [*chain.from_iterable(edits.values()), *opened], feeds) <= noise:
            for key in list(edits):
                without = list(chain.from_iterable(e for k, e in edits.items() if k != key))
                if len(edits) > 1 and _inconsistent(site, [*without, *opened], feeds) <= noise:
                    del edits[key]
            first = next(iter(edits))
            shape = constant(site.target, site.target.node(first), 1)
            yield Suspicion(
                CODE, first, None, 0.95,
                {"constant": [] if shape is None else shape.tolist(), "nodes": list(edits), "batch_error": before},
                f"right on one sample, {'failing' if np.isinf(before) else 'wrong'} on more: "
                f"{', '.join(edits)} reshape to a fixed batch", [*chain.from_iterable(edits.values()), *opened],
            )
            return


def propose(site: Interface, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The edits that detection found."""
    yield suspicion.data


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Bake a batch of one into a Reshape or Flatten, as tracing does."""
    if any(v.shape and isinstance(v.shape[0], int) for v in graph.inputs):
        return None
    places = bakeable(graph)
    if not places:
        return None
    node, shape = places[int(rng.integers(len(places)))]
    if node.op == "Reshape":
        return [ed.SetInput(node.key, 1, np.array(shape, np.int64))]
    name = tensor_like(graph, "shape", node)
    return [ed.SetOperator(node.key, "Reshape", {}, (node.input(0), name), "", {name: np.array(shape, np.int64)})]


FAULT = FaultType(CODE, "Batch size of the trace baked in", "ID", detect, propose, inject, scope="interface")
