"""A convolution or pooling works with another dilation.

*What goes wrong*
Dilation is dropped or misread; pads that depend on it usually change along, so that the shape stays.

*How it shows*
`dilations` of the twins differ, often `pads` too; the whole map is wrong.

*Repair*
Take over the source's dilation, and its pads where they differ.

*When not to apply*
Kernels one wide: their dilation means nothing.

*Seen in*
onnx2tf#251
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import canonical, shape
from fetafix.graph.compare import assign, keeps_shape
from fetafix.graph.kernels import SPATIAL
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-dilation"


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins with other dilations."""
    for setting in settings(segment):
        ours, theirs = setting.values.get("dilations", (None, None))
        if setting.target.op not in SPATIAL or theirs is None:
            continue
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, setting.confidence(segment, ["dilations", "pads"]),
            {"dilations": list(ours or ()), "source_dilations": list(theirs)},
            f"dilation is {list(ours or ())}, in the source {list(theirs)}", setting,
        )


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's dilation alone, then with its pads."""
    return suspicion.data.candidates(segment, ["dilations", "pads"])  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[dict[str, tuple[int, ...]]]:
    """Dilation 1 for 2 and 2 for 1, with pads that keep the output's shape and a kernel that still fits the map."""
    values, dims = canonical(node, graph), shape(graph, node.input(0))
    pads, kernel = values.get("pads"), values.get("kernel_shape", ())
    if pads is None or dims is None or max(kernel, default=1) < 3:
        return []
    n, old = len(kernel), values["dilations"]
    new = tuple((1 if d > 1 else 2) if k > 1 else 1 for k, d in zip(kernel, old, strict=True))
    shift = tuple((k - 1) * (b - a) // 2 for k, a, b in zip(kernel, old, new, strict=True))
    moved = tuple(p + shift[i % n] for i, p in enumerate(pads))
    reach = [(k - 1) * max(a, b) for k, a, b in zip(kernel, old, new, strict=True)]
    fits = min(moved) >= 0 and all(r < d for r, d in zip(reach, dims[2:], strict=True))
    wanted = {"dilations": new, "pads": moved}
    return [wanted] if fits and keeps_shape(node, graph, **wanted) and assign(node, graph, wanted) else []


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """A convolution's dilation 2 becomes 1 (or 1 becomes 2), pads along with it."""
    dilated = [(n, w) for n in graph.nodes if n.op == "Conv" for w in _wrong(n, graph)]
    proper = [p for p in dilated if max(canonical(p[0], graph)["dilations"]) > 1]
    places = proper or dilated
    if not places:
        return None
    node, wanted = places[int(rng.integers(len(places)))]
    return assign(node, graph, wanted)


FAULT = FaultType(CODE, "Wrong dilation", "LH", detect, propose, inject)
