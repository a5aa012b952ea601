"""Which target tensor of a segment holds what a source tensor holds; source nodes in the target's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from weakref import WeakKeyDictionary

import numpy as np

from fetafix.edits import Edit, InsertNode
from fetafix.errors import FetafixError
from fetafix.graph.compare import through
from fetafix.graph.downgrade import lowered_node
from fetafix.graph.naming import like, tensor_like
from fetafix.graph.segment import Segment, relative_error
from fetafix.ir import Array, Attribute, Graph, Node

_NOISE = 1e-4


@dataclass(frozen=True, slots=True)
class Twin:
    """A target tensor and how it holds the source's: target = source.transpose(perm), None for the same layout."""

    tensor: str
    perm: tuple[int, ...] | None = None


_known: WeakKeyDictionary[Segment, Mapping[str, Twin]] = WeakKeyDictionary()


def counterparts(segment: Segment) -> Mapping[str, Twin]:
    """Source tensor → its twin in the target, for all tensors of the segment whose values agree; anchors first."""
    if segment not in _known:
        found = {a.source: Twin(a.target, a.layout.perm) for a in segment.anchors if not a.layout.reshaped}
        theirs = _values(segment.source, segment, segment.source_feeds)
        ours = _values(segment.target, segment, segment.feeds)
        for name, value in theirs.items():
            match = next(_matches(value, ours, segment.tolerance), None) if name not in found else None
            if match is not None:
                found[name] = match
        _known[segment] = found
    return _known[segment]


def _values(graph: Graph, segment: Segment, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [n.key for n in graph.nodes]
    try:
        return dict(zip(names, segment.run(graph, feeds, names), strict=True)) if names else {}
    except FetafixError:
        return _one_by_one(graph, segment, feeds)


def _one_by_one(graph: Graph, segment: Segment, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors that can be computed where the whole segment cannot run."""
    made: dict[str, Array] = {}
    for node in graph.nodes:
        try:
            (made[node.key],) = segment.run(graph, {**feeds, **made}, [node.key])
        except FetafixError:
            continue
    return made


def _matches(value: Array, ours: Mapping[str, Array], tolerance: float) -> Iterator[Twin]:
    spread = float(np.linalg.norm(value.astype(np.float64))) if np.issubdtype(value.dtype, np.number) else 0.0
    if value.size < 2 or not np.isfinite(spread) or spread == 0:
        return
    for name, other in ours.items():
        if other.size != value.size or other.ndim != value.ndim:
            continue
        if abs(float(np.linalg.norm(other.astype(np.float64))) - spread) > _NOISE * spread:
            continue
        for perm in permutations(range(value.ndim)) if value.ndim <= 4 else (tuple(range(value.ndim)),):
            shape = tuple(value.shape[p] for p in perm)
            if shape == other.shape and relative_error(other, value.transpose(perm)) <= max(_NOISE, tolerance):
                yield Twin(name, None if perm == tuple(range(value.ndim)) else perm)
                break


def twin_of(segment: Segment, tensor: str, like: str | None = None) -> Twin | None:
    """The twin of a source tensor, in the segment or anywhere in the target (by the pairs that alignment knows).

    like: a target tensor whose shape the twin should have where there are several (one a layout).
    """
    found = counterparts(segment).get(tensor)
    shape = segment.full.shapes.get(like) if like is not None else None
    if found is not None and (shape is None or segment.full.shapes.get(found.tensor) == shape):
        return found
    others = [t for t, s in segment.pairs.items() if s == tensor]
    fitting = [t for t in others if shape is None or segment.full.shapes.get(t) == shape]
    if found is not None and not fitting:
        return found
    best = next(iter(fitting or others), None)
    return None if best is None else Twin(best, _perm(segment, best, tensor))


def _perm(segment: Segment, ours: str, theirs: str) -> tuple[int, ...] | None:
    a, b = segment.full.shapes.get(ours), segment.source.shapes.get(theirs)
    if a is None or b is None or len(a) != len(b) or tuple(a[1:]) == tuple(b[1:]):
        return None
    perms = (p for p in permutations(range(len(b))) if p[0] == 0)
    return next((p for p in perms if tuple(b[i] for i in p)[1:] == tuple(a[1:])), None)


def in_target_terms(
    segment: Segment,
    node: Node,
    names: Mapping[str, str],
    perm: tuple[int, ...] | None,
    graph: Graph,
    near: Node | None,
) -> tuple[Node, dict[str, Array]] | None:
    """A source node as a new node of `graph`: (node, its constants); None where an input has no name there.

    names: source tensor → tensor of `graph`. perm: the layout in which the target works; constants and axes follow it.
    """
    inputs, constants = [], {}
    for slot, tensor in enumerate(node.inputs):
        value = segment.source.initializers.get(tensor)
        if tensor == "" or tensor in names:
            inputs.append(names.get(tensor, ""))
        elif value is not None:
            name = tensor_like(graph, f"{node.op.lower()}{slot}", near)
            constants[name] = _laid(value, perm)
            inputs.append(name)
        else:
            return None
    attrs: dict[str, Attribute] = dict(node.attrs)
    if perm is not None:
        rank = len(perm)
        if isinstance(attrs.get("axis"), int):
            attrs["axis"] = int(attrs["axis"]) % rank  # type: ignore[arg-type]
        attrs = {k: through(k, v, node.op, perm) for k, v in attrs.items()}
    label, out = like(graph, node.op, near)
    made = Node(node.op, tuple(inputs), (out,), attrs, label, node.domain)
    return _in_its_opset(made, constants, segment, node)


def _in_its_opset(
    made: Node, constants: dict[str, Array], segment: Segment, twin: Node
) -> tuple[Node, dict[str, Array]] | None:
    """A new node as the target's operator set spells it where that is older than the source's."""
    own, wanted = (g.opset.get("", 0) for g in (segment.source, segment.full))
    if wanted >= own or not made.inputs:
        return made, constants
    shapes = {made.inputs[0]: segment.source.shapes[twin.inputs[0]]} if twin.inputs[0] in segment.source.shapes else {}
    older = lowered_node(made, constants, shapes, own, wanted)
    return None if older is None else (older, {k: v for k, v in constants.items() if k in older.inputs})


def _laid(value: Array, perm: tuple[int, ...] | None) -> Array:
    """A broadcast constant in another layout; vectors of shapes and bounds stay as they are."""
    if perm is None or value.size <= 1 or not np.issubdtype(value.dtype, np.floating) or value.ndim > len(perm):
        return value
    full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
    return np.ascontiguousarray(full.transpose(perm))


def put_behind(segment: Segment, tensor: str, node: Node, constants: Mapping[str, Array]) -> list[list[Edit]]:
    """The ways to put a node behind a target tensor: for all that read it, for the segment's readers alone."""
    ways: list[list[Edit]] = [[InsertNode(tensor, node, dict(constants))]]
    here = tuple((n.key, slot) for n, slot in segment.target.consumers.get(tensor, ()) if slot >= 0)
    if 0 < len(here) < len(segment.full.consumers.get(tensor, ())):
        ways.append([InsertNode(tensor, node, dict(constants), here)])
    return ways


def best(segment: Segment, candidates: Iterator[list[Edit]] | list[list[Edit]]) -> tuple[float, list[list[Edit]]]:
    """(smallest error, candidates by healing, then as given) by trial; (inf, []) where none can be tried."""
    tried = [(segment.trial(c), i, c) for i, c in enumerate(candidates)]
    tried.sort(key=lambda t: (not segment.healed(t[0]), 0.0 if segment.healed(t[0]) else t[0], t[1]))
    usable = [t for t in tried if np.isfinite(t[0])]
    return (usable[0][0], [c for _, _, c in usable]) if usable else (float("inf"), [])


def sureness(segment: Segment, error: float, specific: float = 0.95, generic: float = 0.3) -> float:
    """A confidence: `specific` where an edit heals, less where it only helps, `generic` where it does not."""
    if segment.healed(error):
        return specific
    if not np.isfinite(error):
        return 0.0
    return 0.6 if error < 0.1 * segment.error else 0.4 if error < 0.5 * segment.error else generic
