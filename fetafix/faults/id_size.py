"""The target takes its images in another height or width than the source.

*What goes wrong*
A converter or an export script declares another image size, or resizes inside the graph; global pooling lets the
model run on any size, so nothing fails.

*How it shows*
The declared sizes differ between the models, or only the target's graph begins with a Resize. On images of the source's
size the target agrees.

*Repair*
Declare the source's size; take the Resize out.

*When not to apply*
One side leaves its size open, or both sizes are the same up to layout.

*Seen in*
onnx2tflite#98, #99
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.errors import FetafixError
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.constants import concrete
from fetafix.graph.evaluate import Evaluator
from fetafix.graph.inputfix import first_layer
from fetafix.graph.inputlayout import resized
from fetafix.ir import Graph

CODE = "id-size"
_RIGHT = 1e-3


@dataclass(frozen=True)
class Sized:
    """What gives the target the source's size; after: the first layer's error then."""

    edits: list[Edit]
    after: float


def detect(site: Interface) -> Iterator[Suspicion]:
    """Compares declared sizes and asks whether the target agrees at the source's; looks for a Resize at the input."""
    for name, twin in site.inputs.items():
        ours, theirs = (next((v.shape for v in g.inputs if v.name == n), None)
                        for g, n in ((site.target, name), (site.source, twin)))
        readers = site.target.consumers.get(name, ())
        found = resized(ours, theirs) if ours and theirs and len(ours) == len(theirs) == 4 else None
        if found is not None:
            _, shape = found
            edits: list[Edit] = [ed.SetInputShape(name, shape)]
            error = site.trial(edits)
            evidence: dict[str, Any] = {"input": name, "declared": list(ours or ())}
            evidence["source_declares"] = list(theirs or ())
            text = f"the target declares {name!r} as {list(ours or ())} where the source takes {list(theirs or ())}"
        elif len(readers) == 1 and readers[0][0].op in ("Resize", "Upsample") and not _begins_with_resize(site, twin):
            edits = [ed.RemoveNode(readers[0][0].key)]
            error = site.trial(edits)
            evidence = {"input": name, "node": readers[0][0].label}
            text = f"the target resizes {name!r} before anything else, the source does not"
        else:
            continue
        if site.healed(site.error) and found is None:
            continue
        left = first_layer(site, name, edits)
        sure = site.healed(error) or error < 0.1 * site.error or left < _RIGHT
        evidence |= {"error": site.error, "error_at_source_size": error}
        node = readers[0][0].key if readers else None
        yield Suspicion(CODE, node, None, 0.95 if sure else 0.4, evidence, text, Sized(edits, left))


def _begins_with_resize(site: Interface, name: str) -> bool:
    return any(n.op in ("Resize", "Upsample") for n, _ in site.source.consumers.get(name, ()))


def propose(site: Interface, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The edit that detection found."""
    yield suspicion.data.edits


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Declare a larger image, where the model runs on that and its outputs keep their shapes."""
    places = [(v, s) for v in graph.inputs if (s := concrete(graph, v.name)) and len(s) == 4 and max(s[1:]) >= 8]
    if len(graph.inputs) != 1 or not places:
        return None
    value, dims = places[0]
    extents = (1, 2) if dims[3] < dims[1] else (2, 3)
    step = int(rng.choice([8, 16, 32])) if min(dims[i] for i in extents) > 32 else 8
    shape = tuple(d + step if i in extents else d for i, d in enumerate(dims))
    if not _same_outputs(graph, value.name, dims, shape):
        return None
    declared = value.shape or dims
    return [ed.SetInputShape(value.name, tuple(shape[i] if i in extents else d for i, d in enumerate(declared)))]


def _same_outputs(graph: Graph, name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether the outputs keep their shapes, and change their values, when the image gets larger."""
    small = np.random.default_rng(0).random(old).astype(replace(graph).inputs[0].dtype)
    large = np.zeros(new, small.dtype)
    large[tuple(slice(0, d) for d in old)] = small
    try:
        a, b = (Evaluator().run(graph, {name: x}, graph.output_names) for x in (small, large))
    except FetafixError:
        return False
    return all(x.shape == y.shape for x, y in zip(a, b, strict=True)) and not np.allclose(a[0], b[0], rtol=1e-3)


FAULT = FaultType(CODE, "Input of another height or width", "ID", detect, propose, inject, scope="interface")
