"""Half precision inside a graph: which tensors are float16, and edits that compute some nodes in float32 instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from fetafix.edits import Edit, InsertNode, Rewire, SetInput, SetOperator
from fetafix.graph.naming import like
from fetafix.ir import Array, Graph, Node

FLOAT, FLOAT16 = 1, 10
LARGEST, SMALLEST = 65504.0, 2.0**-24
HALF = np.dtype(np.float16)
_WHOLE = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "Equal", "Less", "Greater", "Not", "IsNaN", "IsInf",
                    "QuantizeLinear", "LessOrEqual", "GreaterOrEqual", "And", "Or"})  # fmt: skip
_known: WeakKeyDictionary[Graph, frozenset[str]] = WeakKeyDictionary()


def halves(graph: Graph) -> frozenset[str]:
    """The float16 tensors of a graph, by what its inputs, constants and Casts say."""
    try:
        found = _known.get(graph)
        if found is None:
            found = _known[graph] = _found(graph)
        return found
    except TypeError:  # a graph that cannot be hashed is looked at anew
        return _found(graph)


def _found(graph: Graph) -> frozenset[str]:
    found = {v.name for v in graph.inputs if v.dtype == HALF}
    found |= {k for k, v in graph.initializers.items() if v.dtype == HALF}
    for node in graph.nodes:
        if _makes_half(node, found):
            found.update(o for o in node.outputs if o)
    return frozenset(found)


def _makes_half(node: Node, known: Collection[str]) -> bool:
    if node.op == "Cast":
        return node.attrs.get("to") == FLOAT16
    if node.op in _WHOLE:
        return False
    if node.op in ("CastLike", "DequantizeLinear"):
        return node.input(1) in known
    if node.op == "ConstantOfShape":
        value = node.attrs.get("value")
        return isinstance(value, np.ndarray) and value.dtype == HALF
    return any(t in known for t in (node.inputs[1:] if node.op == "Where" else node.inputs))


def holds(dtype: np.dtype[np.generic], value: Array) -> bool:
    """Whether a type can hold values without making infinities of finite ones."""
    if dtype != HALF or value.dtype.kind != "f":
        return True
    with np.errstate(over="ignore"):
        return bool((np.isinf(value.astype(HALF)) == np.isinf(value)).all())


def vanishes(value: Array, expected: Array) -> bool:
    """Whether there are zeros where there should be something: little by itself, everything to what divides by it.

    A float16 tensor that happens to hold something there counts too, for it could not hold what it should.
    """
    with np.errstate(over="ignore", under="ignore"):
        held = expected.astype(HALF) if value.dtype == HALF else value
    return bool(((held == 0) & (expected != 0)).any())


def computes(node: Node) -> bool:
    """Whether a node makes numbers, and does not only change their type."""
    return node.op not in ("Cast", "CastLike")


def in_single(graph: Graph, keys: Sequence[str], constants: Mapping[tuple[str, int], Array]) -> list[Edit]:
    """Edits after which the nodes `keys`, now float16, compute in float32, with Casts where they meet the rest.

    constants: by node key and slot, what takes the place of a float16 constant; others are widened as they are. A Cast
    to float32 behind the nodes becomes an Identity; a float16 tensor made by a Cast is read where it was float32 yet.
    """
    half, inside = halves(graph), set(keys)
    made: list[Edit] = []
    for key in keys:
        node = graph.producers[key]
        for slot, tensor in enumerate(node.inputs):
            if tensor not in half or tensor in inside:
                continue
            value = graph.initializers.get(tensor)
            if value is not None:
                made.append(SetInput(key, slot, constants.get((key, slot), value.astype(np.float32))))
            else:
                made.append(_widened(graph, node, slot))
    for key in keys:
        made += _narrowed(graph, key, inside)
    return made


def _widened(graph: Graph, node: Node, slot: int) -> Edit:
    """A float16 input read as float32."""
    tensor = node.inputs[slot]
    maker = graph.producers.get(tensor)
    if maker is not None and maker.op == "Cast" and maker.input(0) not in halves(graph):
        return Rewire(node.key, slot, maker.input(0))
    name, out = like(graph, "Cast", maker)
    return InsertNode(tensor, Node("Cast", (tensor,), (out,), {"to": FLOAT}, name), {}, ((node.key, slot),))


def _narrowed(graph: Graph, key: str, inside: Collection[str]) -> list[Edit]:
    """What reads a float32 result outside as float16 gets it so."""
    readers = [(n, slot) for n, slot in graph.consumers.get(key, ()) if slot >= 0 and n.key not in inside]
    casts = [n for n, _ in readers if n.op == "Cast" and n.attrs.get("to") == FLOAT]
    edits: list[Edit] = [SetOperator(n.key, "Identity") for n in casts]
    others = tuple((n.key, slot) for n, slot in readers if n not in casts)
    served = None if key in graph.output_names else others
    if others or served is None:
        name, out = like(graph, "Cast", graph.producers[key])
        edits.append(InsertNode(key, Node("Cast", (key,), (out,), {"to": FLOAT16}, name), {}, served))
    return edits
