"""The fields of explicit pads are in another order.

*What goes wrong*
ONNX wants all begins, then all ends ([top, left, bottom, right]); other formats keep pairs ([top, bottom, left,
right]), or put width before height. A converter copies the numbers without sorting them, or swaps begin and end.

*How it shows*
The target's pads are the source's numbers in another order; where the sums stay, the map is shifted by a pixel.

*Repair*
The source's pads, in ONNX's order; in the Pad in front where that does the padding.

*When not to apply*
The numbers themselves differ (lh-pads-lost, lh-same-asym), the target leaves them to auto_pad (lh-auto-pad), or they
crop a transposed convolution (lh-convT-outpad). NO-OP: equal pads on all sides; padding that the stride never reads.

*Seen in*
onnx2keras#45
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Suspicion
from fetafix.graph.attributes import absorbed, canonical
from fetafix.graph.compare import assign, keeps_shape
from fetafix.graph.kernels import WIDENED, field_orders
from fetafix.graph.segment import Segment
from fetafix.graph.settings import Setting, settings
from fetafix.ir import Graph, Node

CODE = "tss-pad-field-order"


def _order(setting: Setting) -> str | None:
    """How the target's explicit pads are the source's in another order; None where they are not."""
    ours, theirs = setting.values.get("pads", (None, None))
    node = setting.target
    automatic = node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    if node.op not in WIDENED | {"Pad"} or not ours or not theirs or len(ours) != len(theirs) or automatic:
        return None
    return next((how for how, pads in field_orders(theirs).items() if pads == tuple(ours)), None)


def detect(segment: Segment) -> Iterator[Suspicion]:
    """Twins whose pads are the source's in another order."""
    found = [(s, how) for s in settings(segment) if (how := _order(s)) is not None]
    own = [(s, how) for s, how in found if s.target.op == "Pad"] or found  # a Pad in front counts as the layer's too
    for setting, how in own:
        ours, theirs = setting.values["pads"]
        sure = setting.confidence(segment, ["pads"])
        yield Suspicion(
            CODE, setting.target.key, setting.source.key, 0.97 if sure > 0.9 else sure,
            {"pads": list(ours), "source_pads": list(theirs), "order": how},
            f"pads are {list(ours)}, the source's {list(theirs)} with {how}", setting)


def propose(segment: Segment, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """The source's pads."""
    return suspicion.data.candidates(segment, ["pads"])  # type: ignore[no-any-return]


def _wrong(node: Node, graph: Graph) -> list[list[Edit]]:
    """The pads in other orders that keep the output's shape."""
    pads = canonical(node, graph).get("pads")
    elsewhere = node.op == "ConvTranspose" or absorbed(node, graph) is not None  # a Pad in front is a place of its own
    if not pads or elsewhere or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return []
    if node.op == "Pad":
        n = len(pads) // 2
        sums = [pads[i] + pads[n + i] for i in range(n)]
        kept = [p for p in field_orders(pads).values() if [p[i] + p[n + i] for i in range(n)] == sums]
    else:
        kept = [p for p in field_orders(pads).values() if keeps_shape(node, graph, pads=p)]
    return [edits for p in kept if (edits := assign(node, graph, {"pads": p}))]


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """Pads that differ between the sides get another order, where the output's shape hides it."""
    places = [edits for n in graph.nodes if n.op in WIDENED | {"Pad"} for edits in _wrong(n, graph)]
    return places[int(rng.integers(len(places)))] if places else None


FAULT = FaultType(CODE, "Pad fields in another order", "TSS", detect, propose, inject)
