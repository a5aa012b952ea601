"""The input's values are read in another order than they are given (NHWC bytes taken for NCHW).

*What goes wrong*
A converter changes the input's layout and reinterprets the values instead of moving them: a Reshape where a Transpose
belongs, a superfluous Transpose, or both sides transposing. Shapes fit everywhere, every pixel is somewhere else.

*How it shows*
The outputs have nothing to do with the image. Sending the indices 0, 1, 2, … through the rearranging nodes at both
models' inputs gives different orders of the same shape, and not merely height and width exchanged (that is
pp-hw-swap).

*Repair*
The reinterpreting node becomes the right Transpose, or the superfluous nodes go (and the declared shape with them).

*When not to apply*
The target declares another layout and transposes correctly: a NO-OP. One channel or one pixel: order cannot change.

*Seen in*
onnx2tflite#98
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix import edits as ed
from fetafix.edits import Edit
from fetafix.faults.base import FaultType, Interface, Suspicion
from fetafix.graph.constants import NCHW, concrete
from fetafix.graph.inputfix import first_layer
from fetafix.graph.inputlayout import indices, leading, rearranged, straightened
from fetafix.graph.naming import like, tensor_like
from fetafix.ir import Graph, Node

CODE = "id-layout"
_RIGHT = 1e-3


@dataclass(frozen=True)
class Moved:
    """Ways to let the values arrive as in the source; after: the first layer's error then."""

    ways: list[list[Edit]]
    after: float


def detect(site: Interface) -> Iterator[Suspicion]:
    """Compares the order in which values arrive behind the leading nodes of both models."""
    for name in site.inputs:
        found = indices(site, name)
        chain = leading(site.target, name)
        if found is None or not chain or site.healed(site.error):
            continue
        given, wanted = found
        arrived = rearranged(site.target, name, given)
        if arrived is None or arrived.shape != wanted.shape or np.array_equal(arrived, wanted):
            continue
        turned = [wanted.transpose(p) for p in ((0, 1, 3, 2), (0, 2, 1, 3))] if arrived.ndim == 4 else []
        if any(np.array_equal(arrived, t) for t in turned):
            continue
        moved = float(np.mean(arrived != wanted))
        yield Suspicion(
            CODE, chain[-1].key, None, 0.97, {"input": name, "values_out_of_place": round(moved, 4),
                                              "nodes": " → ".join(n.op for n in chain)},
            f"{'+'.join(n.op for n in chain)} at input {name!r} moves {moved:.0%} of the values to another place",
            _proved(site, name),
        )


def propose(site: Interface, suspicion: Suspicion) -> Iterable[Sequence[Edit]]:
    """All changes of the leading nodes after which the values arrive as in the source, the smallest first."""
    yield from suspicion.data.ways


def _proved(site: Interface, name: str) -> Moved:
    """The ways after which the first layer answers like the source's; all of them where that cannot be told."""
    ways = straightened(site, name)
    errors = [first_layer(site, name, way) for way in ways]
    right = [way for way, error in zip(ways, errors, strict=True) if error <= _RIGHT]
    return Moved(right or ways, min(errors, default=float("inf")))


def inject(graph: Graph, rng: np.random.Generator) -> Sequence[Edit] | None:
    """The input is declared NHWC, or taken for it, and reshaped to NCHW; a leading Transpose becomes a Reshape."""
    places = [(v.name, s) for v in graph.inputs if (s := concrete(graph, v.name)) and len(s) == 4 and min(s[1:]) > 1]
    if not places:
        return None
    name, dims = places[int(rng.integers(len(places)))]
    chain = leading(graph, name)
    near: Node | None = next((n for n, _ in graph.consumers.get(name, ())), None)
    if chain and chain[0].op == "Transpose":
        after = concrete(graph, chain[0].key) or ()
        shape = tensor_like(graph, "shape", near)
        return [ed.SetOperator(chain[0].key, "Reshape", {}, (name, shape), "", {shape: np.array([0, *after[1:]])})]
    nhwc = (0, dims[2], dims[3], dims[1])
    node_name, out = like(graph, "Reshape", near)
    shape = tensor_like(graph, "shape", near)
    back = Node("Reshape", (name, shape), (out,), {}, node_name)
    if rng.random() < 0.5:
        declared = next(v.shape for v in graph.inputs if v.name == name) or dims
        return [ed.SetInputShape(name, (declared[0], *nhwc[1:])),
                ed.InsertNode(name, back, {shape: np.array([0, *dims[1:]], np.int64)})]
    first = ed.InsertNode(name, back, {shape: np.array(nhwc, np.int64)})
    turn_name, turned = like(first.apply(graph), "Transpose", near)
    return [first, ed.InsertNode(out, Node("Transpose", (out,), (turned,), {"perm": NCHW}, turn_name))]


FAULT = FaultType(CODE, "Input read in another layout", "ID", detect, propose, inject, scope="interface")
