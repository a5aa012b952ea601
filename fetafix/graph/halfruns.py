"""Float16 nodes of a guilty segment looked at one by one: what overflows, which constants were cut off or vanished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fetafix.errors import FetafixError
from fetafix.graph.halves import HALF, LARGEST, computes, halves
from fetafix.graph.segment import Segment
from fetafix.graph.twins import twins
from fetafix.ir import Array, Graph, Node

Run = Callable[[Graph, Mapping[str, Array], Sequence[str]], Sequence[Array]]
_CLAMPS = np.array([LARGEST, 1e4], np.float32)
_TINY = 1e-6
_MOST = 6


@dataclass(frozen=True, eq=False, slots=True)
class Overflow:
    """A float16 node that makes infinities of finite numbers, or reads a constant cut off in `slot`.

    largest: the absolute value that does not fit. twin: the source's node. why: in words.
    """

    node: Node
    twin: str | None
    largest: float
    why: str
    slot: int | None = None


def overflows(segment: Segment) -> Iterator[Overflow]:
    """Nodes of a segment that overflow, in order; where a Cast does, the nodes that read it."""
    if not np.isfinite(segment.expected).all():
        return
    found = [*overflowing(segment.target, segment.feeds, segment.run)]
    paired = {t.key: s.key for t, s in twins(segment)} if found else {}
    for node, largest in found:
        yield Overflow(node, paired.get(node.key), largest, words(node, largest))


def words(node: Node, largest: float) -> str:
    """What happens there."""
    return f"{node.op} makes or reads values up to {largest:.3g}"


def overflowing(graph: Graph, feeds: Mapping[str, Array], run: Run) -> Iterator[tuple[Node, float]]:
    """(float16 node, the largest absolute value that does not fit) of a graph, or part of one, on its feeds."""
    half = halves(graph)
    nodes = [n for n in graph.nodes if n.key in half]
    values = _values(graph, feeds, run) if nodes else {}
    for node in nodes:
        largest = _beyond(node, values, graph, run)
        if largest is None:
            continue
        blamed = [node] if computes(node) else [n for n, _ in graph.consumers.get(node.key, ()) if computes(n)]
        yield from ((one, largest) for one in blamed)


def _values(graph: Graph, feeds: Mapping[str, Array], run: Run) -> dict[str, Array]:
    names = [o for n in graph.nodes for o in n.outputs if o]
    try:
        made = run(graph, feeds, names)
    except FetafixError:
        return dict(feeds)
    return {**dict(zip(names, made, strict=True)), **feeds}


def _beyond(node: Node, values: Mapping[str, Array], graph: Graph, run: Run) -> float | None:
    """The largest number that a node would make in float32, where it makes infinities of finite inputs in float16."""
    out = values.get(node.key)
    reads = {t: graph.initializers.get(t, values.get(t)) for t in node.inputs if t}
    if out is None or np.isfinite(out).all() or any(v is None for v in reads.values()):
        return None
    if not all(np.isfinite(v).all() for v in reads.values() if v is not None and v.dtype.kind == "f"):
        return None
    wide = {k: v.astype(np.float32) if v is not None and v.dtype == HALF else v for k, v in reads.items()}
    if not computes(node):
        (value,) = (np.asarray(v) for v in wide.values())
    else:
        try:
            single = Graph((node,), {k: v for k, v in wide.items() if v is not None}, (), (), graph.opset)
            (value,) = run(single, {}, [node.key])
        except FetafixError:
            return None
    largest = float(np.max(np.abs(value), initial=0.0))
    return largest if np.isfinite(largest) and largest > LARGEST else None


def constants(segment: Segment) -> dict[tuple[str, int], Array]:
    """The source's values of float16 constants, by node key and slot, where twins have constants of the same shape."""
    found = {}
    for node, twin in twins(segment):
        theirs = [t for t in twin.inputs if t in segment.source.initializers]
        ours = [(i, t) for i, t in enumerate(node.inputs) if t in segment.target.initializers]
        for (slot, mine), other in zip(ours, theirs, strict=False):
            value, source = segment.target.initializers[mine], segment.source.initializers[other]
            if value.dtype == HALF and source.dtype.kind == "f" and value.size == source.size:
                found[node.key, slot] = source.astype(np.float32).reshape(value.shape)
    return found


def cut_off(segment: Segment) -> Iterator[Overflow]:
    """Constants beyond float16's range in the source that are infinite or clamped in the target."""
    paired = {t.key: (t, s.key) for t, s in twins(segment)}
    for (key, slot), right in constants(segment).items():
        node, twin = paired[key]
        mine = segment.target.initializers[node.inputs[slot]].astype(np.float32)
        large = np.abs(right) > LARGEST
        clamped = np.isinf(mine) & np.isfinite(right) | np.isin(np.abs(mine), _CLAMPS)
        if (large & clamped).any():
            largest = float(np.max(np.abs(right[large])))
            yield Overflow(node, twin, largest, f"a constant of {node.op} is {_words(mine, large)}, in the source "
                           f"{_words(right, large)}", slot)


def vanished(segment: Segment) -> Iterator[tuple[Node, int, str, float, float]]:
    """(node, slot, source's node, value, source's value) of small constants that float16 rounds away, or to another."""
    paired = {t.key: (t, s.key) for t, s in twins(segment)}
    for (key, slot), right in constants(segment).items():
        node, twin = paired[key]
        mine = segment.target.initializers[node.inputs[slot]].astype(np.float32)
        if mine.size != 1 or not np.array_equal(mine, _rounded(right)):
            continue
        ours, theirs = float(mine.flat[0]), float(right.flat[0])
        if 0 < abs(theirs) < _TINY and abs(ours - theirs) > 0.05 * abs(theirs):
            yield node, slot, twin, ours, theirs


def _rounded(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(value.astype(np.float16).astype(np.float32))


def _words(value: Array, where: Array) -> str:
    return f"{float(value[where].flat[0]):.3g}"


def runs(graph: Graph, nodes: Sequence[Node], first: Node) -> Iterator[list[str]]:
    """Float16 nodes to compute in float32: the first alone, with those behind it one by one, all of `nodes`."""
    half = halves(graph)
    keys = [n.key for n in nodes if n.key in half and computes(n)]
    start = keys.index(first.key) if first.key in keys else 0
    seen: set[tuple[str, ...]] = set()
    ends = range(start + 1, min(len(keys), start + _MOST) + 1)
    for chosen in (*(keys[start:e] for e in ends), keys[start:], keys):
        if chosen and tuple(chosen) not in seen:
            seen.add(tuple(chosen))
            yield chosen
