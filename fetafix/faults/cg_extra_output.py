"""The target puts out more, or other, tensors than the source.

*What goes wrong*
A converter leaves intermediates or placeholders among the outputs, or puts one in the place of the real output. A tool
that takes output 0 then reads something else.

*How it shows*
The number of outputs differs; comparing contents, some target outputs are no output of the source, or the source's
output is a tensor that the target computes and does not put out.

*Repair*
The outputs become those that hold the source's outputs, in the source's order, chosen by content and not by index.

*When not to apply*
The target has the source's outputs and no others (their order may differ: op-output-order).

*Seen in*
onnx2tflite#98
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion, layout_blind_error
from fetafix.ir import Array, Graph

CODE = "cg-extra-output"
_AT_MOST = 400
_STRANGE = 0.3


def _values(site: Interface, hidden: bool) -> Mapping[str, Array]:
    """The target's outputs, or (hidden) all its tensors that might be an output; {} where it cannot run."""
    graph = site.target
    if hidden:
        sizes = {tuple(sorted(v.shape[1:])) for v in site.expected.values()}
        names = [o for n in graph.nodes for o in n.outputs[:1] if _sizes(graph, o) is None or _sizes(graph, o) in sizes]
        graph = ed.SetOutputs(tuple(dict.fromkeys((*graph.output_names, *names[-_AT_MOST:])))).apply(graph)
    try:
        return site.run_target(graph, site.target_feeds)
    except FetafixError:
        return {}


def _sizes(graph: Graph, tensor: str) -> tuple[int, ...] | None:
    dims = graph.shapes.get(tensor)
    if dims is None or any(not isinstance(d, int) for d in dims[1:]):
        return None
    return tuple(sorted(d for d in dims[1:] if isinstance(d, int)))


def _chosen(site: Interface, values: Mapping[str, Array]) -> dict[str, str]:
    """Source output → the target tensor that holds it: the bound one unless another fits ten times better."""
    bound = {s: t for t, s in site.outputs.items()}
    chosen: dict[str, str] = {}
    for name, wanted in site.expected.items():
        errors = {t: layout_blind_error(v, wanted) for t, v in values.items() if t not in chosen.values()}
        best = min(errors, key=lambda t: errors[t], default=None)
        old = bound.get(name)
        usable = old is not None and old not in chosen.values()
        limit = 0.1 * errors.get(old or "", np.inf) if usable else np.inf
        if best is not None and errors[best] < min(0.5, limit):
            chosen[name] = best
        elif usable and old is not None:
            chosen[name] = old
    return chosen


def _behind(graph: Graph, extra: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a hidden output was found on the way to one that is put out: then a node too many is to blame."""
    upstream = {n.key for n in graph.between((), [e for e in extra if e in graph.producers]).nodes}
    return any(w in upstream and w not in graph.output_names for w in wanted)


def detect(site: Interface) -> Iterator[Suspicion]:
    """Compares the counts, and the contents of all outputs; looks inside the target for an output it lacks."""
    ours = site.target.output_names
    if len(ours) <= len(site.expected) and not site.extra_outputs and site.healed(site.error):
        return
    chosen = _chosen(site, _values(site, hidden=False))
    complete = len(chosen) == len(site.expected)
    if len(ours) == len(site.expected) and set(chosen.values()) <= set(ours) and site.error > _STRANGE:
        chosen = _chosen(site, _values(site, hidden=True))
        complete = len(chosen) == len(site.expected) and not set(chosen.values()) <= set(ours)
    extra = [o for o in ours if o not in chosen.values()]
    wanted = tuple(chosen[s] for s in site.source.output_names if s in chosen)
    if complete and extra and not _behind(site.target, extra, wanted):
        yield Suspicion(
            CODE, extra[0], None, 0.95, {"outputs": list(ours), "extra": extra, "source_outputs": list(site.expected)},
            f"no output of the source: {', '.join(extra)}; its outputs are what the target calls {', '.join(wanted)}",
            wanted,
        )


def propose(site: Interface, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The outputs chosen by content, in the source's order."""
    yield [ed.SetOutputs(suspicion.data)]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """An intermediate tensor becomes an output, in front of or behind the others."""
    idle = ("Constant", "Shape", "Gather")
    names = [n.key for n in graph.nodes if n.key not in graph.output_names and n.op not in idle]
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    at = int(rng.integers(len(graph.outputs) + 1))
    return [ed.SetOutputs((*graph.output_names[:at], name, *graph.output_names[at:]))]


FAULT = FaultType(CODE, "Extra or wrong output", "CG", detect, propose, inject, scope="interface")
