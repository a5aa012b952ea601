"""auto_pad says another way of padding than the source's.

*What goes wrong*
SAME_UPPER and SAME_LOWER are confused (Caffe2's and older tools' SAME meant the other one), SAME stands for symmetric
pads that only look like it, or VALID for SAME.

*How it shows*
The target's node has an auto_pad that comes to other pads than the source's, explicit or automatic. Where the odd
pixel of padding lies on the wrong side, the whole map is shifted by one.

*Repair*
The auto_pad that comes to the source's pads; where none does, the pads themselves.

*When not to apply*
Pads that are written out: their order is tss-pad-field-order, their amounts lh-same-asym or lh-pads-lost. NO-OP:
stride 1 with odd kernels, odd sizes at stride 2 with odd kernels, where UPPER and LOWER are the same.

*Seen in*
onnx#388, tensorflow-onnx#1028
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit, SetAttribute
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import absorbed, canonical, shape
from fetafix.graph.counterparts import best, sureness
from fetafix.graph.kernels import SPATIAL, explicit_pads
from fetafix.graph.segment import Segment
from fetafix.graph.settings import settings
from fetafix.ir import Graph, Node

CODE = "lh-auto-pad"
_SAME = ("SAME_UPPER", "SAME_LOWER")


def _automatic(node: Node) -> str:
    return str(node.attrs.get("auto_pad", "NOTSET"))


def padded_by(node: Node, graph: Graph, auto: str) -> tuple[int, ...] | None:
    """The pads that an auto_pad comes to at a node; None where shapes are unknown."""
    values = {**canonical(node, graph), "auto_pad": auto, "pads": None}
    return explicit_pads(node.op, values, shape(graph, node.input(0)), shape(graph, node.key))


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins of which the target's pads by itself, and otherwise than the source."""
    for setting in settings(segment):
        node, (ours, theirs) = setting.target, setting.values.get("pads", (None, None))
        if node.op not in SPATIAL or _automatic(node) == "NOTSET" or not theirs:
            continue
        ways: list[list[Edit]] = []
        if absorbed(node, segment.full) is None:
            ways = [[SetAttribute(node.key, "auto_pad", auto)] for auto in _SAME
                    if auto != _automatic(node) and padded_by(node, segment.full, auto) == theirs]
        ways += [e for e in [setting.adopt(segment, ["pads"])] if e]
        error, found = best(segment, ways)
        if found:
            yield Suspicion(
                CODE, node.key, setting.source.key, sureness(segment, error, 0.97),
                {"auto_pad": _automatic(node), "pads": list(ours or ()), "source_pads": list(theirs)},
                f"auto_pad {_automatic(node)} comes to {list(ours or ())}, the source pads {list(theirs)}", found)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The other auto_pad, then the pads."""
    return suspicion.data  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[list[Edit]]:
    """An automatic SAME that comes to other pads than the node has, written out or automatic, for the same size."""
    values, dims, out = canonical(node, graph), shape(graph, node.input(0)), shape(graph, node.key)
    pads = values.get("pads")
    if not pads or dims is None or out is None or node.op == "ConvTranspose" or absorbed(node, graph) is not None:
        return []
    if max(values["dilations"]) > 1 or values.get("ceil_mode"):  # ONNX Runtime takes no automatic padding there
        return []
    if any(o != -(-i // s) for i, o, s in zip(dims[2:], out[2:], values["strides"], strict=True)):
        return []
    drop: list[Edit] = [SetAttribute(node.key, "pads", None)] if "pads" in node.attrs else []
    n = len(pads) // 2  # with the same begin and size all windows are the same: what is more at the end is never read
    return [[*drop, SetAttribute(node.key, "auto_pad", auto)] for auto in _SAME
            if (padded_by(node, graph, auto) or pads)[:n] != pads[:n]]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """SAME on another side than the pads, or for symmetric pads, where the size is the same and the pads differ."""
    places = [e for n in graph.nodes if n.op in SPATIAL and not n.domain for e in _wrong(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Automatic padding on the wrong side", "LH", detect, propose, inject)
